//! A user whom the image does not know.

/// The home made for a caller whom the image does not know.
pub(crate) const HOME: &str = "/home/jq";

/// A user who is added to the image's lists of users and groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InjectedUser {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

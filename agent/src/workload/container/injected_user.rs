//! A user that the image does not know.

/// The home created for such a user.
pub(crate) const HOME: &str = "/home/jq";

/// A user to be added to the image's lists of users and groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InjectedUser {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

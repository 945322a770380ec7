//! A user's credential. Values only; nothing prints one.

/// What identifies the user to a registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    /// The registry's address, as `docker login` writes it. Engines give the secret to no other.
    pub(crate) server: String,
    /// The secret.
    pub(crate) secret: Secret,
}

/// What the user proves to be the user with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    /// An identity token.
    Token(String),
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
}

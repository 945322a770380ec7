//! The seam between what is done and who shows it to the user.

/// Hears what happens on the way, for the user. Every text may come from another machine; `notice` alone is given
/// text that is already safe to print.
pub trait Reporter: Send + Sync {
    /// A step has begun on `host`; it ends when that host's next begins, or when [`Reporter::done`] says so.
    fn step(&self, host: &str, text: &str);
    /// The step on `host` is done.
    fn done(&self, host: &str);
    /// The step on `host` has moved `done` of `total` bytes.
    fn progress(&self, host: &str, done: u64, total: u64);
    /// ssh said something that is no error: a banner, a security key that wants a touch. One line.
    fn notice(&self, text: &str);
    /// From `true` to the next `false`, ssh may be asking for something on the terminal: draw nothing there.
    fn prompting(&self, may_ask: bool);
}

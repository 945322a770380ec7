//! Host names from the user or from ssh's configuration.
#![no_main]

use jq_client::ssh::Destination;
use jq_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

/// Whether no program takes the text for an option, and no shell of a user's ProxyCommand interprets it.
fn is_harmless(text: &str) -> bool {
    let acted_upon = |c: char| c.is_whitespace() || c.is_control() || "'\"`$;&<>|(){}".contains(c);
    !text.is_empty() && !text.starts_with('-') && !text.contains(acted_upon)
}

fuzz_target!(|text: &str| {
    for read in [Destination::target, Destination::jump] {
        let Ok(destination) = bounded(text.len(), || read(text)) else {
            continue;
        };
        assert!(is_harmless(destination.host()), "{destination:?}");
        assert!(destination.user().is_none_or(is_harmless), "{destination:?}");
        assert_ne!(destination.port(), Some(0));
    }
});

//! The tar archive in which an engine returns a file of a container.
#![no_main]

use jq_agent::fuzzing::file_in_archive;
use jq_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let file = bounded(data.len(), || file_in_archive(data));
    if let Ok(Some(content)) = file {
        assert!(
            content.len() <= data.len(),
            "the content is longer than the archive"
        );
    }
});

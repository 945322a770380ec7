//! Attacks on the deployment, by other users of the host.

use anyhow::Result;
use jq_tests::faults;

#[test]
fn a_folder_that_is_swapped_between_check_and_start_never_has_its_program_run() -> Result<()> {
    faults::hold("T28")
}

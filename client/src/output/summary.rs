//! Summary of an open session.

use super::{text::clean, words::milliseconds};
use crate::status::{Opened, Port};

/// The lines, with an empty line before and after.
pub(super) fn summary(opened: &Opened) -> Vec<String> {
    let ready = &opened.ready;
    let mut lines = vec![String::new()];
    let mut line = |name: &str, text: String| lines.push(format!("  {name:<11}{}", clean(&text)));
    line(
        "connection",
        format!("{}, {:.0} ms", opened.path, milliseconds(opened.round_trip)),
    );
    match &ready.container {
        Some(container) => line("container", format!("{} ({})", container.name, ready.engine)),
        None => line("engine", ready.engine.clone()),
    }
    for gpu in &ready.gpus {
        line("gpu", gpu.clone());
    }
    for Port { local, target } in &opened.ports {
        line("port", format!("127.0.0.1:{local} -> {target}"));
    }
    lines.push(String::new());
    lines
}

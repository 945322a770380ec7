//! The progress of a pull, summed over its layers.

use std::collections::HashMap;

use crate::engine::PullProgress;

/// The engine's report about one layer.
#[derive(Clone, Debug, Default)]
pub(super) struct LayerReport {
    pub(super) id: Option<String>,
    pub(super) status: String,
    pub(super) current: Option<u64>,
    pub(super) total: Option<u64>,
}

/// The layers seen so far.
#[derive(Debug, Default)]
pub(super) struct Layers {
    layers: HashMap<String, Layer>,
}

#[derive(Debug, Default)]
struct Layer {
    done: u64,
    total: u64,
    fetched: bool,
    unpacked: bool,
}

impl Layers {
    /// Takes a report and returns the progress so far; None when the report is about no layer.
    pub(super) fn report(&mut self, report: LayerReport) -> Option<PullProgress> {
        let id = report.id?;
        // The first report names the tag as if it were a layer.
        if report.status.starts_with("Pulling from") {
            return None;
        }
        let layer = self.layers.entry(id).or_default();
        match report.status.as_str() {
            "Downloading" => {
                let total = report.total.unwrap_or(layer.total);
                layer.total = layer.total.max(total);
                // After a broken connection the engine counts from zero again, either only what was missing or the
                // whole layer. The sum must not decrease.
                let missing = total.saturating_sub(report.current.unwrap_or(0));
                // It also reports that nothing is missing when the connection breaks. If the layer is complete, the
                // next report is its verification.
                if missing > 0 {
                    layer.done = layer.done.max(layer.total - missing);
                }
            }
            "Verifying Checksum" | "Download complete" | "Extracting" => {
                layer.fetched = true;
                layer.done = layer.total;
            }
            "Pull complete" | "Already exists" => {
                layer.fetched = true;
                layer.unpacked = true;
                layer.done = layer.total;
            }
            _ => {}
        }
        Some(self.sum())
    }

    fn sum(&self) -> PullProgress {
        let total: u64 = self.layers.values().map(|layer| layer.total).sum();
        let unpacked = self.layers.values().filter(|layer| layer.unpacked).count();
        let all = self.layers.len();
        let fetching = self.layers.values().any(|layer| !layer.fetched);
        PullProgress {
            done: self.layers.values().map(|layer| layer.done).sum(),
            total: (total > 0).then_some(total),
            detail: if fetching {
                format!("{unpacked} of {all} layers")
            } else {
                format!("unpacking, {unpacked} of {all} layers")
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(id: &str, status: &str, current: u64, total: u64) -> LayerReport {
        LayerReport {
            id: Some(id.into()),
            status: status.into(),
            current: Some(current),
            total: Some(total),
        }
    }

    #[test]
    fn a_resumed_layer_continues_from_its_last_progress() {
        let mut layers = Layers::default();
        for (current, total, done) in [(50, 200, 50), (0, 150, 50), (30, 150, 80), (149, 150, 199)] {
            let sum = layers.report(report("a", "Downloading", current, total)).unwrap();
            assert_eq!((sum.done, sum.total), (done, Some(200)));
        }
    }

    #[test]
    fn a_layer_whose_connection_breaks_is_not_reported_complete() {
        let mut layers = Layers::default();
        for (status, current, total, done) in [
            ("Downloading", 50, 200, 50),
            // What the engine reports when a connection has just broken.
            ("Downloading", 200, 200, 50),
            ("Retrying in 5 seconds", 0, 0, 50),
            ("Downloading", 10, 150, 60),
            ("Downloading", 150, 150, 60),
            ("Download complete", 0, 0, 200),
        ] {
            let sum = layers.report(report("a", status, current, total)).unwrap();
            assert_eq!((sum.done, sum.total), (done, Some(200)), "{status} {current}");
        }
    }

    #[test]
    fn progress_is_summed_and_never_decreases() {
        let mut layers = Layers::default();
        assert_eq!(
            layers.report(report("latest", "Pulling from library/x", 0, 0)),
            None
        );
        layers.report(report("a", "Downloading", 10, 100));
        let sum = layers.report(report("b", "Downloading", 50, 200)).unwrap();
        assert_eq!((sum.done, sum.total), (60, Some(300)));
        let again = layers.report(report("b", "Downloading", 0, 200)).unwrap();
        assert_eq!(again.done, 60);
        // While extracting, the engine counts other bytes, which are not added.
        layers.report(report("a", "Extracting", 5, 1000));
        layers.report(report("a", "Pull complete", 0, 0));
        let last = layers.report(report("b", "Pull complete", 0, 0)).unwrap();
        assert_eq!((last.done, last.total), (300, Some(300)));
        assert_eq!(last.detail, "unpacking, 2 of 2 layers");
    }
}

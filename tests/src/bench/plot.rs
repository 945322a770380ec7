//! Plots the results as SVG: bars, each with its value and its spread.

use std::fmt::Write as _;

use super::{
    Results, Row,
    figures::{Series, Spread, short},
    peers::{PRODUCT, Who},
    table::distinct,
};

/// All lengths are in pixels.
const WIDTH: f64 = 860.0;
const LEFT: f64 = 230.0;
const RIGHT: f64 = 110.0;
const BAR: f64 = 15.0;
const GAP: f64 = 14.0;
const TOP: f64 = 46.0;

/// Colours: one for the product, one for all other peers.
const OURS: &str = "#1f6feb";
const THEIRS: &str = "#9aa4b2";

/// A group of bars that are compared with each other.
struct Group {
    label: String,
    unit: String,
    bars: Vec<(String, Spread)>,
}

/// The plot of one benchmark; none if it compares nothing.
pub(super) fn of(row: &Row) -> Option<String> {
    let series = &row.sheet.series;
    let groups = distinct(series, |one| &one.what)
        .into_iter()
        .map(|what| group(what.to_owned(), series.iter().filter(|one| one.what == what)));
    let groups: Vec<_> = groups.filter(|group| group.bars.len() > 1).collect();
    (!groups.is_empty()).then(|| draw(&row.name, &groups))
}

/// The plot of one stream down over every link; none before a bulk benchmark has run.
pub(super) fn overview(results: &Results) -> Option<String> {
    let bulk = results.rows.iter().filter(|row| row.id.starts_with("bulk-"));
    let groups: Vec<_> = bulk
        .map(|row| {
            let name = row.name.trim_start_matches("bulk, ").to_owned();
            let down = row
                .sheet
                .series
                .iter()
                .filter(|one| one.what == "down, one stream");
            group(name, down)
        })
        .collect();
    (!groups.is_empty()).then(|| {
        draw(
            "One stream down: longer bars are faster, each link has its own scale",
            &groups,
        )
    })
}

fn group<'a>(label: String, series: impl Iterator<Item = &'a Series> + Clone) -> Group {
    let unit = series
        .clone()
        .next()
        .map_or_else(String::new, |one| one.unit.clone());
    let bars = series.filter_map(|one| Some((one.peer.clone(), Spread::of(&one.values)?)));
    Group {
        label,
        unit,
        bars: bars.collect(),
    }
}

fn draw(title: &str, groups: &[Group]) -> String {
    let heights = groups
        .iter()
        .map(|group| group.bars.len() as f64 * BAR + BAR + GAP);
    let height = TOP + heights.sum::<f64>();
    let mut text = String::new();
    let _ = writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">"
    );
    let _ = writeln!(text, "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>");
    let _ = writeln!(
        text,
        "<text x=\"12\" y=\"26\" font-size=\"15\" font-weight=\"bold\">{}</text>",
        escape(title)
    );
    let mut y = TOP;
    for group in groups {
        let _ = writeln!(
            text,
            "<text x=\"12\" y=\"{:.1}\" font-weight=\"bold\">{} [{}]</text>",
            y + BAR - 3.0,
            escape(&group.label),
            escape(&group.unit)
        );
        y += BAR;
        let longest = scale(&group.bars);
        for (peer, spread) in &group.bars {
            bar(&mut text, y, peer, *spread, longest);
            y += BAR;
        }
        y += GAP;
    }
    text.push_str("</svg>\n");
    text
}

/// The value that has the longest bar. Raw TCP without delay can be so much faster than all tunnels that their bars would look
/// the same. Such a bar is cut off and has a gap; its number is the real value.
fn scale(bars: &[(String, Spread)]) -> f64 {
    let longest = |with_raw: bool| {
        let shown = bars
            .iter()
            .filter(|(peer, _)| with_raw || peer != Who::Raw.name());
        shown.map(|(_, spread)| spread.max).fold(0.0, f64::max)
    };
    let (all, tunnels) = (longest(true), longest(false));
    if tunnels > 0.0 && all > tunnels * 3.0 {
        tunnels
    } else {
        all
    }
}

fn bar(text: &mut String, y: f64, peer: &str, spread: Spread, longest: f64) {
    let at = |value: f64| {
        let share = if longest > 0.0 { value / longest } else { 0.0 };
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    };
    let color = if peer == PRODUCT { OURS } else { THEIRS };
    let middle = y + BAR / 2.0;
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        LEFT - 8.0,
        middle + 4.0,
        escape(peer)
    );
    let _ = writeln!(
        text,
        "<rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{color}\"/>",
        y + 2.0,
        at(spread.median) - LEFT,
        BAR - 4.0
    );
    if spread.median > longest {
        // A gap near the end shows that the bar is cut off.
        let end = at(longest) - 24.0;
        let _ = writeln!(
            text,
            "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"#ffffff\" stroke-width=\"4\"/>",
            end - 4.0,
            y + BAR,
            end + 4.0,
            y
        );
    }
    let _ = writeln!(
        text,
        "<path d=\"M{:.1} {middle:.1}H{:.1}\" stroke=\"#24292f\" stroke-width=\"1.5\"/>",
        at(spread.min),
        at(spread.max)
    );
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        at(spread.max) + 6.0,
        middle + 4.0,
        short(spread.median)
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{Spread, Who, bar, escape, of, scale};
    use crate::bench::{Row, Sheet};

    #[test]
    fn a_bar_that_is_cut_off_has_a_gap() {
        let cut = |raw: f64| {
            let mut text = String::new();
            let bars = [(Who::Raw.name(), raw), ("theirs", 10.0)];
            let bars = bars.map(|(peer, value)| {
                (
                    peer.to_owned(),
                    Spread {
                        min: value,
                        median: value,
                        max: value,
                    },
                )
            });
            for (peer, spread) in &bars {
                bar(&mut text, 0.0, peer, *spread, scale(&bars));
            }
            text.matches("#ffffff").count()
        };
        assert_eq!([cut(20.0), cut(100.0)], [0, 1]);
    }

    #[test]
    fn a_plot_shows_every_peer_with_its_median() {
        let mut sheet = Sheet::default();
        for (peer, value) in [("ours", 93.25), ("theirs & others", 12.5)] {
            sheet.add("down", peer, "Mbit/s", value);
        }
        let mut row = Row {
            id: "x".into(),
            name: "a < b".into(),
            bar: String::new(),
            aim: String::new(),
            rounds: 1,
            seconds: 1.0,
            others: 0.0,
            machine: String::new(),
            sheet,
        };
        let picture = of(&row).unwrap_or_default();
        for part in ["a &lt; b", "theirs &amp; others", ">93.2<", ">12.5<"] {
            assert!(picture.contains(part), "{part} in {picture}");
        }
        row.sheet.series.pop();
        assert!(of(&row).is_none());
        assert_eq!(escape("<&>"), "&lt;&amp;&gt;");
    }
}

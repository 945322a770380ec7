//! Results as Markdown tables that are also readable as plain text.

use std::fmt::Write as _;

use super::{
    Results, Row,
    figures::{Series, Spread},
};

/// The table of one benchmark: a line for each situation, a column for each peer, then the grades.
pub(super) fn of(row: &Row) -> String {
    let mut text = format!("## {}: {}\n\n", row.id, row.name);
    let series = &row.sheet.series;
    let peers = distinct(series, |one| &one.peer);
    let whats = distinct(series, |one| &one.what);
    let mut lines = vec![
        std::iter::once(String::new())
            .chain(peers.iter().map(|peer| (*peer).to_owned()))
            .collect::<Vec<_>>(),
    ];
    for what in whats {
        let cell = |peer: &&str| {
            let found = series.iter().find(|one| one.what == what && one.peer == **peer);
            let spread = found.and_then(|one| Spread::of(&one.values));
            spread.map_or_else(String::new, |spread| spread.to_string())
        };
        let unit = series.iter().find(|one| one.what == what).map(|one| &one.unit);
        let head = format!("{what} [{}]", unit.map_or("", String::as_str));
        lines.push(std::iter::once(head).chain(peers.iter().map(cell)).collect());
    }
    columns(&mut text, &lines);
    let _ = writeln!(text, "\nBar: {}. Aim: {}.\n", row.bar, row.aim);
    for verdict in &row.sheet.verdicts {
        let _ = writeln!(text, "    {verdict}");
    }
    let _ = writeln!(
        text,
        "\n{} rounds of {} s, median (smallest..largest), on {}; other processes used {:.0} % of a processor before it.",
        row.rounds, row.seconds, row.machine, row.others
    );
    text
}

/// The tables of all benchmarks.
pub(super) fn of_all(results: &Results) -> String {
    let mut text = String::from("# Results\n\n");
    let tables: Vec<_> = results.rows.iter().map(of).collect();
    text.push_str(&tables.join("\n"));
    text
}

/// The distinct values, in the order of their first occurrence.
pub(super) fn distinct<'a>(series: &'a [Series], field: impl Fn(&'a Series) -> &'a String) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for one in series {
        let value = field(one);
        if !found.contains(&value.as_str()) {
            found.push(value);
        }
    }
    found
}

/// Writes aligned columns. The first line is the head.
fn columns(text: &mut String, lines: &[Vec<String>]) {
    let count = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<_> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    for (number, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        let _ = writeln!(text, "|");
        if number == 0 {
            for width in &widths {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            }
            let _ = writeln!(text, "|");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::of_all;
    use crate::bench::{Results, Row, Sheet};

    #[test]
    fn every_row_names_the_machine_on_which_it_was_measured() {
        let row = |machine: &str| Row {
            id: "x".into(),
            name: String::new(),
            bar: String::new(),
            aim: String::new(),
            rounds: 1,
            seconds: 1.0,
            others: 0.0,
            machine: machine.into(),
            sheet: Sheet::default(),
        };
        let text = of_all(&Results {
            rows: vec![row("the old one"), row("the new one")],
        });
        for part in [", on the old one;", ", on the new one;"] {
            assert_eq!(text.matches(part).count(), 1, "{part} in {text}");
        }
    }
}

//! The last line of the terminal, redrawn in place: a step with a spinner, or the status of the connection.

use std::{io, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    echo::{Echo, is_in_background},
    writer,
};

/// Interval of the spinner.
const TICK: Duration = Duration::from_millis(100);

/// Columns of a terminal of unknown width.
const USUAL_WIDTH: usize = 80;

/// Moves to column one and erases to the end of the screen, which includes lines that a narrower window wrapped.
const ERASE: &str = "\r\x1b[J";

/// Content of the line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Content {
    /// The line is empty.
    #[default]
    Nothing,
    /// Text after a spinner.
    Turning(String),
    /// Text as it is; may contain colour sequences.
    Still(String),
}

/// The line. Draws only on a terminal.
pub(super) struct Line {
    draws: bool,
    covered: bool,
    content: Content,
    spinner: Option<ProgressBar>,
    /// Whether [`Content::Still`] is on the terminal; the cursor is at its first column.
    stands: bool,
    echo: Echo,
}

impl Line {
    pub(super) fn new(draws: bool) -> Self {
        Self {
            draws,
            covered: false,
            content: Content::Nothing,
            spinner: None,
            stands: false,
            echo: Echo::default(),
        }
    }

    /// Whether it draws at all.
    pub(super) fn draws(&self) -> bool {
        self.draws
    }

    /// Shows `content` from now on.
    pub(super) fn show(&mut self, content: Content) {
        self.content = content;
        self.draw();
    }

    /// While covered, draws nothing: another program, such as ssh, uses the terminal.
    pub(super) fn cover(&mut self, covered: bool) {
        self.covered = covered;
        self.draw();
        writer::flush();
    }

    /// Whether another program may be using the terminal.
    pub(super) fn is_covered(&self) -> bool {
        self.draws && self.covered
    }

    /// Erases the line, runs `write`, and draws the line again.
    pub(super) fn above(&self, write: impl FnOnce()) {
        if let Some(spinner) = &self.spinner {
            return spinner.suspend(|| {
                write();
                writer::flush();
            });
        }
        if !self.stands || is_in_background() {
            return write();
        }
        writer::error(ERASE.to_owned());
        write();
        if let Content::Still(text) = &self.content {
            writer::redraw(still(text));
        }
    }

    /// Characters that fit into the line.
    pub(super) fn width(&self) -> usize {
        let size = rustix::termios::tcgetwinsize(io::stderr());
        let columns = size.map_or(0, |size| usize::from(size.ws_col));
        let columns = if columns == 0 { USUAL_WIDTH } else { columns };
        columns.saturating_sub(1)
    }

    fn draw(&mut self) {
        if !self.draws {
            return;
        }
        let content = match &self.content {
            _ if self.covered => &Content::Nothing,
            Content::Still(_) if is_in_background() => {
                // The shell owns the screen now.
                self.stands = false;
                &Content::Nothing
            }
            content => content,
        };
        if !matches!(content, Content::Turning(_))
            && let Some(spinner) = self.spinner.take()
        {
            spinner.finish_and_clear();
        }
        if !matches!(content, Content::Still(_)) {
            if std::mem::take(&mut self.stands) {
                writer::error(ERASE.to_owned());
            }
            self.echo.restore();
        }
        match content {
            Content::Nothing => {}
            Content::Turning(text) => {
                // The spinner writes to the terminal itself: queued output must come first.
                writer::flush();
                let spinner = self.spinner.get_or_insert_with(turning);
                spinner.set_message(text.clone());
            }
            Content::Still(text) => {
                self.echo.turn_off();
                writer::redraw(still(text));
                self.stands = true;
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.show(Content::Nothing);
    }
}

fn turning() -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    // The template is a constant; if it were invalid, the default style would be used.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
        spinner.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
    }
    spinner.enable_steady_tick(TICK);
    spinner
}

/// Sequence that replaces the line by `text` and leaves the cursor at its first column, so that an echoed `^C` does not
/// wrap and the next output overwrites the line (indicatif would leave the cursor at the right margin). Wrapping is off
/// while it is drawn: a narrower terminal cuts the text.
fn still(text: &str) -> String {
    format!("{ERASE}\x1b[?7l{text}\x1b[?7h\r")
}

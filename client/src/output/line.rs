//! The last line of the terminal, redrawn in place: a step with a turning spinner, or how the connection is.

use std::{io, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    echo::{Echo, is_in_background},
    writer,
};

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Width of a terminal that does not tell.
const USUAL_WIDTH: usize = 80;

/// To the line's beginning, and everything from there erased: also what a narrower window has wrapped.
const ERASE: &str = "\r\x1b[J";

/// What the line shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Content {
    /// No line.
    #[default]
    Nothing,
    /// A text behind a turning spinner.
    Turning(String),
    /// A text as it is; it may hold colours.
    Still(String),
}

/// The line. Nothing is drawn off a terminal.
pub(super) struct Line {
    draws: bool,
    covered: bool,
    content: Content,
    spinner: Option<ProgressBar>,
    /// A still text stands on the terminal, the cursor on its first column.
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

    /// Whether there is a terminal to draw on.
    pub(super) fn draws(&self) -> bool {
        self.draws
    }

    /// Shows this from now on.
    pub(super) fn show(&mut self, content: Content) {
        self.content = content;
        self.draw();
    }

    /// While covered, nothing is drawn: someone else is writing to the terminal.
    pub(super) fn cover(&mut self, covered: bool) {
        self.covered = covered;
        self.draw();
        writer::flush();
    }

    /// Whether someone else may be writing to the terminal.
    pub(super) fn is_covered(&self) -> bool {
        self.draws && self.covered
    }

    /// Runs `write` with the line out of its way.
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

    /// Characters that fit into the line beside the cursor.
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
                // What stood there is the shell's by now.
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
                // It draws by itself, behind what was there before.
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
    // The template is a constant; a mistake in it shows as the default style.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
        spinner.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
    }
    spinner.enable_steady_tick(TICK);
    spinner
}

/// Draws `text` over what is on the line and goes back to its beginning, where an echoed `^C` wraps nothing and whatever
/// is printed next takes its place. (indicatif leaves the cursor at the right margin.) A terminal that has become
/// narrower cuts the text: wrapping is off meanwhile.
fn still(text: &str) -> String {
    format!("{ERASE}\x1b[?7l{text}\x1b[?7h\r")
}

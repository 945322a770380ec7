//! How a command is passed to a container: through the image's entry point, which may be an activator that runs what it
//! is given, a shell, or a program of its own. Pure.

use crate::engine::ImageFacts;

/// What a container is created with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Launch {
    /// Replaces the image's entry point; none to keep it.
    pub(crate) entrypoint: Option<Vec<String>>,
    /// Replaces the image's command; none to keep it, or for none where the entry point is replaced.
    pub(crate) command: Option<Vec<String>>,
    /// A note for the user when the entry point is left out.
    pub(crate) note: Option<String>,
}

/// Runs the words that follow it as a command.
const RUN_WORDS: &str = "exec \"$0\" \"$@\"";

/// Shells, by the name of their program.
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh"];
/// Programs that take arguments of their own kind rather than a command.
const PROGRAMS: [&str; 8] = [
    "jupyter",
    "jupyter-lab",
    "jupyter-notebook",
    "jupyter-server",
    "jupyterhub-singleuser",
    "ipython",
    "tensorboard",
    "mlflow",
];
/// Interpreters: without arguments of the entry point, a command would be a script to them.
const INTERPRETERS: [&str; 4] = ["python", "python3", "node", "Rscript"];

/// What an entry point does with words that are appended to it.
#[derive(Debug, PartialEq, Eq)]
enum Takes {
    /// It runs them as a command, with these words before it.
    Command(Vec<String>),
    /// It is a program of its own.
    Arguments,
}

/// Plans how to run `command` in a container of `image`; none for the image's own. `asked` is `--entrypoint`, as
/// docker-run(1) has it: an empty one leaves the image's out.
pub(crate) fn launch(image: &ImageFacts, asked: Option<&str>, command: Option<Vec<String>>) -> Launch {
    let entry: Vec<String> = match asked {
        None => image.entrypoint.clone(),
        Some("") => Vec::new(),
        Some(program) => vec![program.to_owned()],
    };
    let Some(command) = command else {
        return own_command(image, asked, entry);
    };
    let alone = |command, note| Launch {
        entrypoint: Some(command),
        command: None,
        note,
    };
    if entry.is_empty() {
        // An empty entry point in the request would not replace the image's.
        return if image.entrypoint.is_empty() {
            Launch {
                command: Some(command),
                ..Launch::default()
            }
        } else {
            alone(command, None)
        };
    }
    match takes(&entry) {
        Takes::Command(before) => Launch {
            entrypoint: asked.is_some().then_some(entry),
            command: Some(before.into_iter().chain(command).collect()),
            note: None,
        },
        Takes::Arguments => alone(
            command,
            Some(format!(
                "the image's entry point `{}` is a program of its own, so it is left out; `--entrypoint` names another",
                entry.join(" ")
            )),
        ),
    }
}

fn own_command(image: &ImageFacts, asked: Option<&str>, entry: Vec<String>) -> Launch {
    let entrypoint = match asked {
        None => None,
        Some("") => Some(image.command.clone()),
        Some(_) => Some(entry),
    };
    Launch {
        entrypoint,
        ..Launch::default()
    }
}

fn takes(entry: &[String]) -> Takes {
    let name = |word: &String| word.rsplit('/').next().unwrap_or_default().to_owned();
    if let Some(shell) = entry.iter().position(|word| SHELLS.contains(&&*name(word))) {
        return takes_of_shell(&entry[shell + 1..]);
    }
    // Whatever stands before a program is an init, or sets an environment.
    let last = entry.last().map(name).unwrap_or_default();
    let is_program = entry.iter().any(|word| PROGRAMS.contains(&&*name(word)));
    if is_program || INTERPRETERS.contains(&&*last) {
        return Takes::Arguments;
    }
    Takes::Command(Vec::new())
}

/// What a shell does with further words (sh(1)), after these.
fn takes_of_shell(words: &[String]) -> Takes {
    let (mut has_text, mut at) = (false, 0);
    while let Some(option) = words.get(at).filter(|word| word.starts_with(['-', '+'])) {
        at += 1;
        if option == "--" || option == "-" {
            break;
        }
        let is_short = !option.starts_with("--");
        has_text |= is_short && option.contains('c');
        let has_value = is_short && option.ends_with('o') || matches!(&**option, "--rcfile" | "--init-file");
        at += usize::from(has_value);
    }
    let operands = words.get(at..).unwrap_or_default();
    let words = |words: &[&str]| Takes::Command(words.iter().map(|word| (*word).to_owned()).collect());
    match (has_text, operands) {
        (true, []) => words(&[RUN_WORDS]),
        // A program of its own, unless it runs its arguments.
        (true, [text, ..]) if !text.contains("$@") && !text.contains("$*") => Takes::Arguments,
        // The first word after the text is not among its arguments.
        (true, [_]) => words(&["jq"]),
        (true, _) => words(&[]),
        (false, []) => words(&["-c", RUN_WORDS]),
        // A script.
        (false, _) => words(&[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[&str]) -> Vec<String> {
        text.iter().map(|word| (*word).to_owned()).collect()
    }

    fn image(entrypoint: &[&str]) -> ImageFacts {
        ImageFacts {
            entrypoint: words(entrypoint),
            command: words(&["serve"]),
            ..ImageFacts::default()
        }
    }

    #[test]
    fn an_entry_point_that_is_a_shell_runs_the_command_and_a_program_is_left_out() {
        let run = |before: &[&str]| Takes::Command(words(before));
        for (entry, expected) in [
            (&["/entrypoint.sh"][..], run(&[])),
            (&["tini", "-g", "--", "start.sh"], run(&[])),
            (&["conda", "run", "-n", "env"], run(&[])),
            (&["/bin/bash"], run(&["-c", RUN_WORDS])),
            (&["bash", "-l"], run(&["-c", RUN_WORDS])),
            (&["/usr/bin/env", "bash", "--login"], run(&["-c", RUN_WORDS])),
            (&["bash", "-o", "pipefail", "-c"], run(&[RUN_WORDS])),
            (&["/bin/sh", "-c"], run(&[RUN_WORDS])),
            (&["tini", "--", "bash", "-lc"], run(&[RUN_WORDS])),
            (&["bash", "/activate.sh"], run(&[])),
            (&["bash", "-c", "source /a && exec \"$@\""], run(&["jq"])),
            (&["bash", "-c", "source /a && exec \"$@\"", "--"], run(&[])),
            (&["/bin/sh", "-c", "python /app/serve.py"], Takes::Arguments),
            (&["jupyter", "lab", "--ip=0.0.0.0"], Takes::Arguments),
            (&["tini", "--", "jupyter", "notebook"], Takes::Arguments),
            (&["python3"], Takes::Arguments),
        ] {
            assert_eq!(takes(&words(entry)), expected, "{entry:?}");
        }
    }

    #[test]
    fn the_images_entry_point_is_kept_unless_it_is_a_program_or_another_is_named() {
        let command = || Some(words(&["jupyter", "lab"]));
        let kept = launch(&image(&["/entry.sh"]), None, command());
        assert_eq!((kept.entrypoint, kept.command), (None, command()));
        let left_out = launch(&image(&["python"]), None, command());
        assert_eq!((left_out.entrypoint, left_out.command), (command(), None));
        assert!(left_out.note.unwrap().contains("`python`"));
        let none = launch(&image(&["/entry.sh"]), Some(""), command());
        assert_eq!((none.entrypoint, none.command), (command(), None));
        let named = launch(&image(&["/entry.sh"]), Some("bash"), command());
        assert_eq!(named.entrypoint, Some(words(&["bash"])));
        assert_eq!(
            named.command.unwrap(),
            words(&["-c", RUN_WORDS, "jupyter", "lab"])
        );
        assert_eq!(launch(&image(&[]), None, command()).command, command());
    }

    #[test]
    fn without_a_command_an_entry_point_is_what_docker_run_makes_of_it() {
        assert_eq!(launch(&image(&["/e"]), None, None), Launch::default());
        let named = launch(&image(&["/e"]), Some("/f"), None);
        assert_eq!((named.entrypoint, named.command), (Some(words(&["/f"])), None));
        let none = launch(&image(&["/e"]), Some(""), None);
        assert_eq!((none.entrypoint, none.command), (Some(words(&["serve"])), None));
    }
}

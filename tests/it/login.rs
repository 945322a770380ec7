//! Logins that need the user: ssh prompts on the terminal, and prompts again only after the user has pressed Enter.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Result, ensure};
use jq_tests::{
    eventually, http,
    lab::{HostName, Lab, Topology},
    product::{Client, client_binary},
    require,
    terminal::Terminal,
};

const SECRET: &str = "correct horse";
const WRONG: &str = "wrong horse";

/// ssh's prompt for a key's passphrase (ssh(1)).
const PASSPHRASE: &str = "Enter passphrase for key";

/// The service's port, on the laptop and on the GPU host.
const PORT: u16 = 9000;

/// The argument of `-L`.
const FORWARD: &str = "9000:127.0.0.1:9000";

/// Time limit of a first connect.
const CONNECT: Duration = Duration::from_secs(60);

/// Time limit for everything that needs little CPU time: noticing an outage, trying ssh, prompting.
const SOON: Duration = Duration::from_secs(30);

/// Time until Enter is pressed again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Both ends of a connection through the forward.
struct Conversation {
    near: TcpStream,
    far: TcpStream,
}

impl Conversation {
    fn begin(lab: &Lab, service: &TcpListener) -> Result<Self> {
        let near = http::dial(lab.laptop(), PORT)?;
        let (far, _) = service.accept()?;
        far.set_read_timeout(Some(SOON))?;
        Ok(Self { near, far })
    }

    fn asks(&mut self, question: &[u8]) -> Result<()> {
        Ok(self.near.write_all(question)?)
    }

    /// Checks that `question` arrives next, and that an answer to it arrives.
    fn is_answered(&mut self, question: &[u8]) -> Result<()> {
        let mut heard = vec![0; question.len()];
        self.far.read_exact(&mut heard)?;
        ensure!(heard == question, "{heard:?}");
        self.far.write_all(question)?;
        self.near.read_exact(&mut heard)?;
        ensure!(heard == question, "{heard:?}");
        Ok(())
    }
}

fn service(lab: &Lab) -> Result<TcpListener> {
    Ok(lab.gpu().enter(|| TcpListener::bind(("127.0.0.1", PORT)))??)
}

/// Number of logins on the GPU host so far.
fn logins(lab: &mut Lab) -> Result<usize> {
    let log = fs::read_to_string(lab.sshd(HostName::Gpu).log())?;
    Ok(log.lines().filter(|line| line.starts_with("Accepted ")).count())
}

/// The user at a terminal, and the number of prompts answered there.
struct User<'a> {
    terminal: Terminal,
    prompt: &'a str,
    asked: usize,
}

impl User<'_> {
    /// Waits for ssh's prompt and answers it.
    fn answers(&mut self, secret: &str) -> Result<()> {
        self.terminal.shows(self.prompt, SOON)?;
        self.asked += 1;
        self.terminal.types(&format!("{secret}\n"))
    }

    /// Presses Enter until ssh prompts, and answers.
    fn logs_in(&mut self, secret: &str) -> Result<()> {
        self.asks_for_a_login()?;
        self.terminal.types(&format!("{secret}\n"))
    }

    /// Presses Enter until ssh prompts. Once may be too few: ssh keeps the terminal for a moment after the status line appears.
    fn asks_for_a_login(&mut self) -> Result<()> {
        self.terminal.shows("Enter logs in", SOON)?;
        let mut tries = 0;
        loop {
            self.terminal.types("\n")?;
            tries += 1;
            match self.terminal.shows(self.prompt, PATIENCE) {
                Ok(()) => break,
                Err(error) if tries == 3 => return Err(error),
                Err(_) => {}
            }
        }
        self.asked += 1;
        Ok(())
    }

    /// Checks that ssh prompted only when it should, and that no secret was shown.
    fn saw_no_other_prompt(&self) -> Result<()> {
        let shown = self.terminal.text();
        ensure!(
            shown.matches(self.prompt).count() == self.asked,
            "ssh must have prompted exactly {} times:\n{shown}",
            self.asked
        );
        ensure!(
            !shown.contains(SECRET) && !shown.contains(WRONG),
            "a secret was shown:\n{shown}"
        );
        Ok(())
    }
}

/// A session whose ssh prompts with `prompt`, with an open connection. UDP is blocked, so the session waits for a login.
fn session_that_needs_a_login<'a>(lab: &Lab, prompt: &'a str) -> Result<(User<'a>, Conversation)> {
    let service = service(lab)?;
    lab.laptop().install(&client_binary(), "jq-client")?;
    let arguments = "jq-client connect gpu --engine process --jupyter none --no-browser -L";
    let words: Vec<_> = arguments.split(' ').chain([FORWARD]).collect();
    let mut user = User {
        terminal: Terminal::open(lab.laptop(), &words)?,
        prompt,
        asked: 0,
    };
    user.answers(WRONG)?;
    user.answers(SECRET)?;
    user.terminal.shows("Ctrl-C disconnects", CONNECT)?;
    let mut conversation = Conversation::begin(lab, &service)?;
    conversation.asks(b"before")?;
    conversation.is_answered(b"before")?;
    lab.link().set(|conditions| conditions.block_udp = true);
    conversation.asks(b"meanwhile")?;
    user.terminal.shows("login needed for gpu", SOON)?;
    Ok((user, conversation))
}

fn continues_and_ends(mut user: User<'_>, mut conversation: Conversation) -> Result<()> {
    conversation.is_answered(b"meanwhile")?;
    conversation.asks(b"after")?;
    conversation.is_answered(b"after")?;
    user.terminal.types("\x03")?;
    ensure!(user.terminal.wait()?.success(), "{}", user.terminal.text());
    user.saw_no_other_prompt()
}

fn resumes_after_a_login(lab: &Lab, prompt: &str) -> Result<()> {
    let (mut user, conversation) = session_that_needs_a_login(lab, prompt)?;
    // ssh prompts three times and gives up. Nothing is lost, and the user can try again.
    user.logs_in(WRONG)?;
    user.answers(WRONG)?;
    user.answers(WRONG)?;
    user.logs_in(SECRET)?;
    user.terminal.shows("connected over ssh", SOON)?;
    continues_and_ends(user, conversation)
}

#[test]
fn ssh_asks_for_a_passphrase_only_after_enter_and_streams_stay_open_until_then() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).up()?;
    lab.laptop().lock_key(SECRET)?;
    resumes_after_a_login(&lab, PASSPHRASE)?;
    lab.down()
}

#[test]
fn ssh_asks_for_a_password_only_after_enter_and_streams_stay_open_until_then() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let mut lab = Lab::builder().topology(Topology::Direct).up()?;
    lab.gpu().set_password(SECRET)?;
    lab.sshd(HostName::Gpu)
        .configure("PasswordAuthentication yes\nPubkeyAuthentication no")?;
    resumes_after_a_login(&lab, "'s password: ")?;
    lab.down()
}

#[test]
fn a_prompt_is_cancelled_when_the_login_is_no_longer_needed() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).up()?;
    lab.laptop().lock_key(SECRET)?;
    let (mut user, conversation) = session_that_needs_a_login(&lab, PASSPHRASE)?;
    user.asks_for_a_login()?;
    lab.link().set(|conditions| conditions.block_udp = false);
    user.terminal.shows("connected again directly", SOON)?;
    user.terminal.shows("● connected directly", SOON)?;
    eventually("the prompting ssh to end", SOON, || {
        lab.laptop()
            .run(r#"pgrep -x -u "$(id -u)" ssh || true"#)
            .is_ok_and(|left| left.is_empty())
    })?;
    continues_and_ends(user, conversation)?;
    lab.down()
}

#[test]
fn a_host_key_that_changes_during_an_outage_ends_the_session_without_a_login() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let mut lab = Lab::builder().topology(Topology::Direct).up()?;
    let service = service(&lab)?;
    let arguments = ["gpu", "--engine", "process", "--jupyter", "none", "-L", FORWARD];
    let mut client = Client::connect(lab.laptop(), &arguments)?;
    client.ready()?;
    let mut conversation = Conversation::begin(&lab, &service)?;
    conversation.asks(b"before")?;
    conversation.is_answered(b"before")?;

    lab.sshd(HostName::Gpu).change_host_key()?;
    let before = logins(&mut lab)?;
    lab.link().set(|conditions| conditions.block_udp = true);
    conversation.asks(b"meanwhile")?;
    let failure = client.failure()?;
    ensure!(
        failure.kind == "host_key_changed" && failure.status == Some(255),
        "{failure:#?}"
    );
    ensure!(failure.host.as_deref() == Some("gpu"), "{failure:#?}");
    ensure!(
        failure.what.contains("key has changed") && failure.hint.contains("ssh-keygen"),
        "{failure:#?}"
    );
    ensure!(
        logins(&mut lab)? == before,
        "somebody logged in to a host with a changed key"
    );
    let end = conversation.near.read(&mut [0; 8]);
    ensure!(
        end.as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionReset),
        "a lost connection must not look complete: {end:?}"
    );
    lab.down()
}

#[test]
fn a_stopped_terminal_blocks_no_stream_and_no_reconnect() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).up()?;
    let service = service(&lab)?;
    lab.laptop().install(&client_binary(), "jq-client")?;
    let arguments = "jq-client connect gpu --engine process --jupyter none --no-browser -L";
    let words: Vec<_> = arguments.split(' ').chain([FORWARD]).collect();
    let mut terminal = Terminal::open(lab.laptop(), &words)?;
    terminal.shows("Ctrl-C disconnects", CONNECT)?;
    let mut conversation = Conversation::begin(&lab, &service)?;
    conversation.asks(b"before")?;
    conversation.is_answered(b"before")?;

    // Ctrl-S: writes to the terminal block from now on.
    terminal.types("\x13")?;
    lab.link().set(|conditions| conditions.up = false);
    conversation.asks(b"meanwhile")?;
    eventually("the client to notice the outage", SOON, || {
        lab.laptop()
            .run("jq-client status --json")
            .is_ok_and(|told| told.contains("reconnecting"))
    })?;
    lab.link().set(|conditions| conditions.up = true);
    conversation.is_answered(b"meanwhile")?;
    conversation.asks(b"after")?;
    conversation.is_answered(b"after")?;
    ensure!(
        !terminal.text().contains("reconnecting"),
        "the terminal is not stopped"
    );

    // Ctrl-Q.
    terminal.types("\x11")?;
    terminal.shows("connected again", SOON)?;
    terminal.types("\x03")?;
    ensure!(terminal.wait()?.success(), "{}", terminal.text());
    lab.down()
}

//! Logins that need the user: ssh asks at the terminal, and asks again only when the user wants it.

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

/// How ssh asks for a key's passphrase (ssh(1)).
const PASSPHRASE: &str = "Enter passphrase for key";

/// The service on the GPU host, and its port on the laptop.
const PORT: u16 = 9000;
const FORWARD: &str = "9000:127.0.0.1:9000";

/// How long a first connect may take.
const CONNECT: Duration = Duration::from_secs(60);

/// How long what is not a matter of computing may take: to notice an outage, to try ssh, to ask.
const SOON: Duration = Duration::from_secs(30);

/// How long Enter is given before it is pressed again.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection through the forward, held at both ends.
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

    /// That `question` arrives next, and an answer to it.
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

/// How often anybody has logged in on the GPU host.
fn logins(lab: &mut Lab) -> Result<usize> {
    let log = fs::read_to_string(lab.sshd(HostName::Gpu).log())?;
    Ok(log.lines().filter(|line| line.starts_with("Accepted ")).count())
}

/// Whoever sits at the terminal, and how often ssh has asked there.
struct User<'a> {
    terminal: Terminal,
    prompt: &'a str,
    asked: usize,
}

impl User<'_> {
    /// Answers when ssh asks.
    fn answers(&mut self, secret: &str) -> Result<()> {
        self.terminal.shows(self.prompt, SOON)?;
        self.asked += 1;
        self.terminal.types(&format!("{secret}\n"))
    }

    /// Presses Enter until ssh asks, and answers.
    fn logs_in(&mut self, secret: &str) -> Result<()> {
        self.wants_to_log_in()?;
        self.terminal.types(&format!("{secret}\n"))
    }

    /// Presses Enter until ssh asks: not always once, since the terminal is ssh's a moment longer than the line says.
    fn wants_to_log_in(&mut self) -> Result<()> {
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

    /// That ssh asked when it was to, and that nothing secret was ever shown.
    fn was_left_alone_otherwise(&self) -> Result<()> {
        let shown = self.terminal.text();
        ensure!(
            shown.matches(self.prompt).count() == self.asked,
            "asked {} times and no more:\n{shown}",
            self.asked
        );
        ensure!(
            !shown.contains(SECRET) && !shown.contains(WRONG),
            "what is secret is not shown:\n{shown}"
        );
        Ok(())
    }
}

/// A session whose ssh asks by `prompt`, and a conversation in it, without UDP from now on: its user is waited for.
fn left_without_udp<'a>(lab: &Lab, prompt: &'a str) -> Result<(User<'a>, Conversation)> {
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

fn goes_on_and_ends(mut user: User<'_>, mut conversation: Conversation) -> Result<()> {
    conversation.is_answered(b"meanwhile")?;
    conversation.asks(b"after")?;
    conversation.is_answered(b"after")?;
    user.terminal.types("\x03")?;
    ensure!(user.terminal.wait()?.success(), "{}", user.terminal.text());
    user.was_left_alone_otherwise()
}

fn is_brought_back_by_its_user(lab: &Lab, prompt: &str) -> Result<()> {
    let (mut user, conversation) = left_without_udp(lab, prompt)?;
    // ssh asks three times, and gives up. Nothing is lost by that, and it can be had again.
    user.logs_in(WRONG)?;
    user.answers(WRONG)?;
    user.answers(WRONG)?;
    user.logs_in(SECRET)?;
    user.terminal.shows("connected over ssh", SOON)?;
    goes_on_and_ends(user, conversation)
}

#[test]
fn a_passphrase_is_asked_for_when_the_user_wants_it_and_streams_wait_for_that() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).up()?;
    lab.laptop().lock_key(SECRET)?;
    is_brought_back_by_its_user(&lab, PASSPHRASE)?;
    lab.down()
}

#[test]
fn a_login_is_asked_for_where_ssh_is_told_to_be_quiet() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).up()?;
    let config = lab.laptop().run("cat .ssh/config")?;
    lab.laptop()
        .write(".ssh/config", format!("LogLevel QUIET\n{config}"))?;
    lab.laptop().lock_key(SECRET)?;
    is_brought_back_by_its_user(&lab, PASSPHRASE)?;
    lab.down()
}

#[test]
fn a_password_is_asked_for_when_the_user_wants_it_and_streams_wait_for_that() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let mut lab = Lab::builder().topology(Topology::Direct).up()?;
    lab.gpu().set_password(SECRET)?;
    lab.sshd(HostName::Gpu)
        .configure("PasswordAuthentication yes\nPubkeyAuthentication no")?;
    is_brought_back_by_its_user(&lab, "'s password: ")?;
    lab.down()
}

#[test]
fn a_question_is_taken_back_once_its_answer_is_not_needed_any_more() -> Result<()> {
    if !require::lab() {
        return Ok(());
    }
    let lab = Lab::builder().topology(Topology::Direct).up()?;
    lab.laptop().lock_key(SECRET)?;
    let (mut user, conversation) = left_without_udp(&lab, PASSPHRASE)?;
    user.wants_to_log_in()?;
    lab.link().set(|conditions| conditions.block_udp = false);
    user.terminal.shows("connected again directly", SOON)?;
    user.terminal.shows("● connected directly", SOON)?;
    eventually("no ssh that still asks", SOON, || {
        lab.laptop()
            .run(r#"pgrep -x -u "$(id -u)" ssh || true"#)
            .is_ok_and(|left| left.is_empty())
    })?;
    goes_on_and_ends(user, conversation)?;
    lab.down()
}

#[test]
fn a_host_key_that_changes_during_an_outage_ends_the_session_before_anybody_logs_in_there() -> Result<()> {
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
        "nobody logs in where the key is another"
    );
    let end = conversation.near.read(&mut [0; 8]);
    ensure!(
        end.as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionReset),
        "what is lost does not look complete: {end:?}"
    );
    lab.down()
}

#[test]
fn a_stopped_terminal_holds_up_no_stream_and_no_way_back() -> Result<()> {
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

    // Ctrl-S: whoever writes there from now on waits.
    terminal.types("\x13")?;
    lab.link().set(|conditions| conditions.up = false);
    conversation.asks(b"meanwhile")?;
    eventually("an outage that is noticed", SOON, || {
        lab.laptop()
            .run("jq-client status --json")
            .is_ok_and(|told| told.contains("reconnecting"))
    })?;
    lab.link().set(|conditions| conditions.up = true);
    conversation.is_answered(b"meanwhile")?;
    conversation.asks(b"after")?;
    conversation.is_answered(b"after")?;
    ensure!(!terminal.text().contains("reconnecting"), "it is stopped");

    // Ctrl-Q.
    terminal.types("\x11")?;
    terminal.shows("connected again", SOON)?;
    terminal.types("\x03")?;
    ensure!(terminal.wait()?.success(), "{}", terminal.text());
    lab.down()
}

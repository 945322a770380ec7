//! A running `jq-client connect`: its events, its state, and how it ends.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{
    client_binary,
    events::{Failure, Ready},
};
use crate::{eventually, eventually_some, lab::Host, panics};

/// Time limit of a connect, including an upload and the first start of Jupyter, on two busy cores.
const CONNECT: Duration = Duration::from_secs(180);

/// Time limit for the client to end.
const END: Duration = Duration::from_secs(30);

/// Time limit for reading the remaining output of a client that has ended.
const STDERR_WAIT: Duration = Duration::from_millis(200);

/// Number of events that an error message shows.
const RECENT_EVENTS: usize = 30;

/// A running `jq-client connect`. Dropping it kills the process, and fails the test if the client panicked.
pub struct Client {
    child: Child,
    events: Receiver<Value>,
    seen: Vec<Value>,
    stderr: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Client {
    /// Runs `jq-client connect ARGS` on a host of the lab, as its user.
    ///
    /// # Errors
    /// When it cannot be installed or started.
    pub fn connect(host: &Host, args: &[&str]) -> Result<Self> {
        host.install(&client_binary(), "jq-client")?;
        Self::spawn(host.command("jq-client").arg("connect").args(args))
    }

    /// Runs `command`, a `jq-client connect`, and reads its events.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        command.args(["--json", "--no-browser"]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start jq-client")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let from = child.stderr.take().context("no stderr")?;
        let (sender, events) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line)
                    .unwrap_or_else(|_| serde_json::json!({ "event": "not json", "text": line }));
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        let stderr = Arc::<Mutex<String>>::default();
        let said = stderr.clone();
        let reader = thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                said.push_str(&String::from_utf8_lossy(&line));
                said.push('\n');
            }
        });
        Ok(Self {
            child,
            events,
            seen: Vec::new(),
            stderr,
            reader: Some(reader),
        })
    }

    /// The client's process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits until the client is connected.
    ///
    /// # Errors
    /// When the client fails instead, or takes too long.
    pub fn ready(&mut self) -> Result<Ready> {
        let event = self.wait_for(&["ready", "failure"], CONNECT)?;
        if event["event"] == "failure" {
            bail!("jq-client failed: {event}; {}", self.diagnostics());
        }
        Ok(serde_json::from_value(event)?)
    }

    /// Waits until the client fails and ends.
    ///
    /// # Errors
    /// When it succeeds, or takes too long.
    pub fn failure(&mut self) -> Result<Failure> {
        let event = self.wait_for(&["ready", "failure"], CONNECT)?;
        if event["event"] == "ready" {
            bail!("jq-client connected, but it should fail: {event}");
        }
        let mut failure: Failure = serde_json::from_value(event)?;
        failure.status = self.wait()?.code();
        Ok(failure)
    }

    /// Waits for the next event with one of these names.
    ///
    /// # Errors
    /// When the client ends first, or after `within`.
    pub fn wait_for(&mut self, names: &[&str], within: Duration) -> Result<Value> {
        let deadline = Instant::now() + within;
        loop {
            match self
                .events
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(event) => {
                    self.seen.push(event.clone());
                    if names.iter().any(|name| event["event"] == *name) {
                        return Ok(event);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "no {names:?} within {within:?}; its events:\n{}",
                        self.recent_events()
                    )
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    bail!(
                        "jq-client ended ({status}) before {names:?}; {}",
                        self.diagnostics()
                    )
                }
            }
        }
    }

    /// Every event so far.
    pub fn events(&mut self) -> &[Value] {
        self.seen.extend(self.events.try_iter());
        &self.seen
    }

    /// The texts of all events with this name so far.
    pub fn texts(&mut self, name: &str) -> Vec<String> {
        let events = self.events().iter().filter(|event| event["event"] == name);
        events
            .filter_map(|event| event["text"].as_str().map(str::to_owned))
            .collect()
    }

    /// Waits until the client is in this state (`connected`, `suspect`, `reconnecting`, `login_needed`, `lost`). Returns at
    /// once if it is in this state already.
    ///
    /// # Errors
    /// When the client ends first, or after `within`.
    pub fn wait_for_state(&mut self, state: &str, within: Duration) -> Result<Value> {
        self.wait_until(&format!("state {state}"), within, |last| last["state"] == state)
    }

    /// Waits until `right` holds for the path that the client reported last. Returns that path.
    ///
    /// # Errors
    /// When the client ends first, or after `within`.
    pub fn wait_for_path(&mut self, within: Duration, right: impl Fn(&str) -> bool) -> Result<String> {
        let event = self.wait_until("another path", within, |last| {
            last["path"].as_str().is_some_and(&right)
        })?;
        Ok(event["path"].as_str().unwrap_or_default().to_owned())
    }

    /// The path that the client reported last.
    pub fn path(&mut self) -> Option<String> {
        let told = self
            .events()
            .iter()
            .rev()
            .find_map(|event| event["path"].as_str());
        told.map(str::to_owned)
    }

    /// Waits until `right` holds for the last `ready` or `state` event.
    fn wait_until(&mut self, what: &str, within: Duration, right: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + within;
        loop {
            let is_told = |event: &&Value| event["event"] == "state" || event["event"] == "ready";
            if let Some(last) = self.events().iter().rev().find(is_told)
                && right(last)
            {
                return Ok(last.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.wait_for(&["state"], left)
                .with_context(|| format!("waiting {within:?} for {what}"))?;
        }
    }

    /// The newest events, one per line.
    fn recent_events(&mut self) -> String {
        let events = self.events();
        let newest = &events[events.len().saturating_sub(RECENT_EVENTS)..];
        let lines: Vec<_> = newest.iter().map(|event| format!("    {event}")).collect();
        lines.join("\n")
    }

    /// The newest events and stderr, for an error message. Kills the client if it is still running.
    fn diagnostics(&mut self) -> String {
        // Fails only if the process has ended already.
        let _ = self.child.kill();
        let stderr = self.stderr();
        format!("its events:\n{}\nits stderr: {stderr}", self.recent_events())
    }

    /// Everything on stderr, once the client has ended.
    pub fn stderr(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            // The text that the thread read before a panic is still there.
            let _ = reader.join();
        }
        self.stderr_so_far()
    }

    fn stderr_so_far(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The panics of the client, and those that its events report, as far as they have been read.
    fn panics(&mut self) -> Vec<String> {
        let told: Vec<_> = self.events().iter().map(ToString::to_string).collect();
        panics::in_text(&format!("{}{}", self.stderr_so_far(), told.join("\n")))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid(), signal)?)
    }

    /// Waits until the client has ended.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        eventually_some("jq-client has ended", END, || Ok(self.child.try_wait()?))
    }

    /// Ends the client as Ctrl-C does.
    ///
    /// # Errors
    /// When it does not end, or not with 0.
    pub fn disconnect(mut self) -> Result<()> {
        self.signal(Signal::INT)?;
        let status = self.wait()?;
        if !status.success() {
            bail!("jq-client ended with {status}; {}", self.diagnostics());
        }
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Fails only if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // An ssh process that the client left behind may keep stderr open. The client's own output is read by then.
        let read = || self.reader.as_ref().is_none_or(thread::JoinHandle::is_finished);
        let _ = eventually("the client's remaining output", STDERR_WAIT, read);
        let panics = self.panics();
        // A test that has failed already has its own message.
        assert!(
            panics.is_empty() || thread::panicking(),
            "the client panicked:\n{}",
            panics.join("\n")
        );
    }
}

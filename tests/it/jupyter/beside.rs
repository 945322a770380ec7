//! Jupyter beside the own command of a container of the user's.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::mpsc::channel,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use jq_tests::{eventually, lab::Lab, product::Client, require};

use super::{IMAGE, answers, connects, environment, image, lab};

fn run(lab: &Lab, name: &str, options: &[&str], command: &[&str]) -> Result<String> {
    let all = [&["run", "-d", "--name", name][..], options, command].concat();
    Ok(lab.docker(all)?.trim().to_owned())
}

#[test]
fn a_container_with_mounts_over_everything_or_an_unknown_user_gets_jupyter() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let sleep = &[IMAGE, "sleep", "600"][..];
    for (name, options) in [
        ("run", &["--tmpfs", "/run"][..]),
        ("sealed", &["--read-only", "--tmpfs", "/run", "--tmpfs", "/tmp"]),
        // Docker's /dev/shm can be written to.
        ("bare", &["--read-only"]),
        ("nobody", &["--user", "4321:4321", "-e", "JUPYTER_TOKEN=theirs"]),
        ("homeless", &["--user", "4321", "-e", "HOME=/"]),
    ] {
        run(&lab, name, options, sleep)?;
        let (client, first) = connects(&lab, &["gpu", "-c", name])?;
        client.disconnect()?;
        let (client, again) = connects(&lab, &["gpu", "-c", name])?;
        ensure!(
            again.jupyter_was_running == Some(true) && again.url == first.url,
            "{name}: {again:?}"
        );
        client.disconnect()?;
    }
    // Nowhere at all.
    run(&lab, "nowhere", &["--read-only", "--ipc", "none"], sleep)?;
    let failure = Client::connect(lab.laptop(), &["gpu", "-c", "nowhere"])?.failure()?;
    ensure!(
        failure.what.contains("can write to") && failure.hint.contains("--tmpfs /tmp"),
        "{failure:#?}"
    );
    lab.down()
}

#[test]
fn a_restart_of_the_container_brings_jupyter_back_on_the_same_port_with_the_same_token() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    // As most people run theirs: a shell with a terminal.
    lab.docker(["run", "-dit", "--name", "mine", IMAGE, "bash"])?;
    let (mut client, ready) = connects(&lab, &["gpu", "-c", "mine"])?;
    lab.docker(["restart", "-t", "1", "mine"])?;
    eventually("the restart is told", Duration::from_secs(60), || {
        let notes = client.texts("note");
        notes
            .iter()
            .any(|note| note.contains("mine was restarted") && note.contains("same port"))
    })?;
    answers(&lab, &ready)?;
    let told = client.texts("note");
    ensure!(
        told.iter().filter(|note| note.contains("was restarted")).count() == 1,
        "{told:?}"
    );
    client.disconnect()?;
    // A client that was not there meanwhile.
    lab.docker(["restart", "-t", "1", "mine"])?;
    let (client, again) = connects(&lab, &["gpu", "-c", "mine"])?;
    ensure!(again.url == ready.url, "{again:?}");
    client.disconnect()?;
    // Another container of the same name gets another token.
    lab.docker(["rm", "-f", "mine"])?;
    lab.docker(["run", "-dit", "--name", "mine", IMAGE, "bash"])?;
    let (client, other) = connects(&lab, &["gpu", "-c", "mine"])?;
    ensure!(other.token()? != ready.token()?);
    client.disconnect()?;
    lab.down()
}

#[test]
fn jupyter_gets_the_environment_that_the_entry_point_has_made() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let activate =
        "#!/bin/sh\nexport ACTIVATED='by entry\npoint'\nPATH=/opt/jupyter/bin:$PATH\nexec \"$@\"\n";
    // Only the entry point knows where Jupyter is.
    let dockerfile = format!(
        "FROM {IMAGE}\nENV PATH=/usr/local/bin:/usr/bin:/bin\nCOPY activate /\nRUN chmod 755 /activate\n\
         ENTRYPOINT [\"/activate\"]\n"
    );
    let odd = image(
        &lab,
        "activate",
        &[("Dockerfile", &dockerfile), ("activate", activate)],
    )?;
    for (name, options) in [("plain", &[][..]), ("with-init", &["--init"])] {
        let id = run(&lab, name, options, &[&odd, "sleep", "600"])?;
        let (client, _) = connects(&lab, &["gpu", "-c", name])?;
        let has = environment(&lab, &id, "jupyter-lab")?;
        ensure!(has.contains("ACTIVATED=by entry\npoint"), "{name}: {has}");
        client.disconnect()?;
    }
    lab.down()
}

#[test]
fn what_speaks_no_http_has_its_port_and_jupyter_takes_the_next() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    let serve = "import socket\ns = socket.create_server(('127.0.0.1', 8888))\nprint('ready', flush=True)\n\
                 while True:\n    c = s.accept()[0]\n    c.sendall(b'\\x15\\x03\\x03\\x00\\x02\\x02\\x46')\n    c.close()\n";
    let id = run(&lab, "tls", &[], &[IMAGE, "python3", "-c", serve])?;
    eventually("the other service listens", Duration::from_secs(30), || {
        lab.docker(["logs", &id]).is_ok_and(|log| log.contains("ready"))
    })?;
    let (client, _) = connects(&lab, &["gpu", "-c", "tls"])?;
    let listening = lab.docker(["exec", &id, "cat", "/proc/net/tcp"])?;
    ensure!(listening.contains("0100007F:22B9"), "8889: {listening}");
    client.disconnect()?;
    lab.down()
}

#[test]
fn on_the_hosts_network_nobody_else_gets_the_token_and_jupyter_has_no_port() -> Result<()> {
    if !require::docker() {
        return Ok(());
    }
    let lab = lab()?;
    // Another user of the host, who waits for a token at every port that Jupyter might have.
    let (saw, seen) = channel();
    for port in 8888..8898 {
        let listener = lab.gpu().enter(|| TcpListener::bind(("127.0.0.1", port)))??;
        let saw = saw.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut request = [0; 4096];
                let read = stream.read(&mut request).unwrap_or(0);
                let _ = saw.send(String::from_utf8_lossy(&request[..read]).into_owned());
                let body = r#"{"version": "2.14.0"}"#;
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
        });
    }
    let before = listeners(&lab)?;
    run(&lab, "hostly", &["--network", "host"], &[IMAGE, "sleep", "600"])?;
    let (client, ready) = connects(&lab, &["gpu", "-c", "hostly"])?;
    let asked: Vec<_> = seen.try_iter().collect();
    ensure!(
        !asked.iter().any(|request| request.contains("uthorization")),
        "{asked:?}"
    );
    ensure!(listeners(&lab)? == before, "no port more: {:?}", listeners(&lab)?);
    client.disconnect()?;
    let (client, again) = connects(&lab, &["gpu", "-c", "hostly"])?;
    ensure!(
        again.url == ready.url && again.jupyter_was_running == Some(true),
        "{again:?}"
    );
    client.disconnect()?;
    lab.down()
}

/// The TCP ports that are listened on at the host, without those of agents.
fn listeners(lab: &Lab) -> Result<Vec<String>> {
    let table = lab
        .gpu()
        .run("cat /proc/net/tcp /proc/net/tcp6")
        .context("the table")?;
    let mut ports: Vec<_> = table
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            (fields.get(3) == Some(&"0A")).then(|| fields[1].to_owned())
        })
        .collect();
    ports.sort();
    Ok(ports)
}

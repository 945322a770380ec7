//! Listens on 127.0.0.1, on each TCP port that is named as an argument, and sends back what it gets. The end of what comes
//! in is passed on as the end of what goes out, so that half-closed connections can be told from broken ones.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

fn main() {
    let listen = |port: String| {
        let Ok(port) = port.parse::<u16>() else {
            // Not a panic, which the lab takes for one of the product's.
            eprintln!("`{port}` is no port");
            std::process::exit(2);
        };
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || echo(stream));
            }
        })
    };
    let listeners: Vec<_> = std::env::args().skip(1).map(listen).collect();
    println!("listening");
    for listener in listeners {
        let _ = listener.join();
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 65536];
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return stream.shutdown(Shutdown::Write);
        }
        stream.write_all(&buffer[..len])?;
    }
}

//! The programs in the pods: who sends, who receives, and what they say about it.
//!
//! A receiver prints the port that it was given, then a line per run, and ends when its standard input does; a sender gets
//! its standing orders as arguments and prints one line. Lines are numbers with spaces between them.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use clap::Subcommand;

use crate::run::Failure;
use crate::soak;

/// Payload of a small datagram: 60 bytes on Ethernet.
const SMALL: usize = 18;
/// Payload of a datagram there and back.
const ECHO: usize = 64;
/// Bytes per write of a TCP sender.
const WRITE: usize = 128 << 10;
/// A receiver of datagrams takes this much silence for the end of a run.
const SILENCE: Duration = Duration::from_millis(120);
/// Nobody waits longer than this for something to begin.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Prints its port; for each connection that ends, bytes and nanoseconds
    TcpSink,
    /// Sends through this many connections for so long
    TcpSource {
        to: SocketAddrV4,
        streams: usize,
        millis: u64,
    },
    /// Prints its port; for each run, datagrams and nanoseconds from first to last
    UdpSink,
    /// Sends small datagrams at a rate, 0 for as fast as possible; prints how many
    UdpSource {
        to: SocketAddrV4,
        rate: u64,
        millis: u64,
    },
    /// Prints its port; sends every datagram back
    UdpEcho,
    /// One datagram at a time there and back; prints the median and the 99th percentile in nanoseconds
    Rtt { to: SocketAddrV4, millis: u64 },
    /// Prints its port; of a known sequence the bytes, and the first wrong one
    Verify,
    /// Sends the known sequence for so many seconds and gigabytes at least; prints bytes and milliseconds
    Send {
        to: SocketAddrV4,
        seconds: u64,
        gigabytes: u64,
    },
}

/// Plays a role.
///
/// # Errors
/// When a socket says no.
pub(crate) fn act(role: &Role) -> Result<(), Failure> {
    match *role {
        Role::TcpSink => tcp_sink(),
        Role::TcpSource {
            to,
            streams,
            millis,
        } => tcp_source(to, streams, Duration::from_millis(millis)),
        Role::UdpSink => udp_sink(),
        Role::UdpSource { to, rate, millis } => udp_source(to, rate, Duration::from_millis(millis)),
        Role::UdpEcho => udp_echo(),
        Role::Verify => soak::verify(),
        Role::Send {
            to,
            seconds,
            gigabytes,
        } => soak::send(to, seconds, gigabytes),
        Role::Rtt { to, millis } => rtt(to, Duration::from_millis(millis)),
    }
}

/// Prints a line at once.
pub(crate) fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Ends the program with its standard input: whoever started it is done, or dead.
fn end_with_stdin() {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
}

fn tcp_sink() -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    say(&listener.local_addr()?.port().to_string())?;
    end_with_stdin();
    for stream in listener.incoming() {
        let mut stream = stream?;
        thread::spawn(move || -> io::Result<()> {
            let mut buffer = vec![0; WRITE];
            let (began, mut bytes) = (Instant::now(), 0_u64);
            loop {
                let n = stream.read(&mut buffer)?;
                if n == 0 {
                    break;
                }
                bytes += n as u64;
            }
            say(&format!("{bytes} {}", began.elapsed().as_nanos()))
        });
    }
    Ok(())
}

fn tcp_source(to: SocketAddrV4, streams: usize, time: Duration) -> Result<(), Failure> {
    let connections: Vec<TcpStream> = (0..streams)
        .map(|_| TcpStream::connect_timeout(&to.into(), PATIENCE))
        .collect::<Result<_, _>>()?;
    let end = Instant::now() + time;
    let threads: Vec<_> = connections
        .into_iter()
        .map(|mut stream| {
            thread::spawn(move || -> io::Result<()> {
                let block = vec![0x5a; WRITE];
                while Instant::now() < end {
                    stream.write_all(&block)?;
                }
                Ok(())
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a sender panicked")??;
    }
    say("0")?;
    Ok(())
}

fn udp_sink() -> Result<(), Failure> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    say(&socket.local_addr()?.port().to_string())?;
    end_with_stdin();
    let mut buffer = [0; 2048];
    loop {
        socket.set_read_timeout(None)?;
        socket.recv(&mut buffer)?;
        let began = Instant::now();
        let (mut count, mut last) = (1_u64, began);
        socket.set_read_timeout(Some(SILENCE))?;
        loop {
            match socket.recv(&mut buffer) {
                Ok(_) => count += 1,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e.into()),
            }
            // The clock costs as much as a datagram: it is read now and then, and behind the last.
            if count.is_multiple_of(32) {
                last = Instant::now();
            }
        }
        say(&format!(
            "{count} {}",
            last.duration_since(began).as_nanos()
        ))?;
    }
}

fn udp_source(to: SocketAddrV4, rate: u64, time: Duration) -> Result<(), Failure> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    let block = [0x5a; SMALL];
    let began = Instant::now();
    let (mut tried, mut sent) = (0_u64, 0_u64);
    loop {
        let elapsed = began.elapsed();
        if elapsed >= time {
            break;
        }
        // As many as are due by now, 64 at most between two looks at the clock.
        let due = if rate == 0 {
            tried + 64
        } else {
            let due = u128::from(rate) * elapsed.as_nanos() / 1_000_000_000;
            u64::try_from(due).unwrap_or(u64::MAX).min(tried + 64)
        };
        if due == tried {
            std::hint::spin_loop();
        }
        while tried < due {
            tried += 1;
            // A full queue is an answer too.
            sent += u64::from(socket.send(&block).is_ok());
        }
    }
    say(&format!("{sent} {tried}"))?;
    Ok(())
}

fn udp_echo() -> Result<(), Failure> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    say(&socket.local_addr()?.port().to_string())?;
    end_with_stdin();
    let mut buffer = [0; 2048];
    loop {
        let (n, from) = socket.recv_from(&mut buffer)?;
        let _ = socket.send_to(&buffer[..n], from);
    }
}

fn rtt(to: SocketAddrV4, time: Duration) -> Result<(), Failure> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut buffer = [0; 2048];
    let mut times = Vec::with_capacity(1 << 16);
    let began = Instant::now();
    for n in 0_u32.. {
        if began.elapsed() >= time {
            break;
        }
        let mut block = [0; ECHO];
        block[..4].copy_from_slice(&n.to_be_bytes());
        let sent = Instant::now();
        socket.send(&block)?;
        match socket.recv(&mut buffer) {
            Ok(_) if buffer[..4] == n.to_be_bytes() => times.push(sent.elapsed().as_nanos()),
            // Late or lost: it doesn't count, the next one does.
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e.into()),
        }
    }
    times.sort_unstable();
    let (Some(p50), Some(p99)) = (
        times.get(times.len() / 2),
        times.get(times.len() * 99 / 100),
    ) else {
        return Err("no datagram came back".into());
    };
    say(&format!("{p50} {p99}"))?;
    Ok(())
}

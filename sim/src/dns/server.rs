//! The name server as a program: runs in the coredns pod, answers over UDP and TCP on port 53.
//!
//! Started by the daemon with the path of a zone file, which the daemon replaces with every change of the cluster; the file is
//! read again when its time stamp differs. One thread per transport; a TCP client has a few seconds for each question, and a
//! bounded number of them are served at once. A question for the forwarder waits in a thread of its own, so that it holds up nobody.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::{Reply, Zone, answer, answer_with};

/// Hidden verb of the program.
pub const COMMAND: &str = "__dns";

const PORT: u16 = 53;

/// Longest question over UDP that is read.
const MAX_QUESTION: usize = 4096;

/// Clients of TCP and questions for the forwarder that are served at once.
const MAX_BUSY: usize = 64;

/// How long a client of TCP may take, and the forwarder.
const PATIENCE: Duration = Duration::from_secs(5);

/// The zone file, read again when it changes.
#[derive(Debug)]
struct Names {
    path: PathBuf,
    read: Mutex<(Option<SystemTime>, Arc<Zone>)>,
}

impl Names {
    fn open(path: &Path) -> io::Result<Self> {
        let (time, zone) = load(path)?;
        Ok(Self {
            path: path.to_owned(),
            read: Mutex::new((time, Arc::new(zone))),
        })
    }

    /// The newest zone; the one before while the file can't be read.
    fn zone(&self) -> Arc<Zone> {
        let time = fs::metadata(&self.path)
            .and_then(|meta| meta.modified())
            .ok();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if time != read.0
            && let Ok((time, zone)) = load(&self.path)
        {
            *read = (time, Arc::new(zone));
        }
        Arc::clone(&read.1)
    }
}

fn load(path: &Path) -> io::Result<(Option<SystemTime>, Zone)> {
    let time = fs::metadata(path)?.modified().ok();
    let zone = serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)?;
    Ok((time, zone))
}

/// Writes the zone so that a reader finds the old one or the new one, never a part.
///
/// # Errors
/// What the file system says.
pub fn publish(path: &Path, zone: &Zone) -> io::Result<()> {
    let text = serde_json::to_vec(zone).map_err(io::Error::other)?;
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

/// One of the limited number of helpers; counted until it is dropped.
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn begin(count: &Arc<AtomicUsize>) -> Option<Self> {
        if count.fetch_add(1, Ordering::Relaxed) < MAX_BUSY {
            return Some(Self(Arc::clone(count)));
        }
        count.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves the zone in the file that the first argument names, until it is ended.
#[must_use]
pub fn main(args: &[std::ffi::OsString]) -> u8 {
    let Some(path) = args.first() else {
        eprintln!("a zone file is wanted");
        return 2;
    };
    match serve(Path::new(path)) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("name server: {error}");
            1
        }
    }
}

fn serve(path: &Path) -> io::Result<()> {
    let names = Arc::new(Names::open(path)?);
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    println!("{}:{PORT}", super::DOMAIN);
    let busy = Arc::new(AtomicUsize::new(0));
    let (of_tcp, count) = (Arc::clone(&names), Arc::clone(&busy));
    std::thread::Builder::new()
        .name("tcp".to_owned())
        .spawn(move || {
            for client in tcp.incoming().flatten() {
                let Some(guard) = Busy::begin(&count) else {
                    continue;
                };
                let names = Arc::clone(&of_tcp);
                // A client that can't be served finds its connection closed.
                let _ = std::thread::Builder::new().spawn(move || {
                    let _ = serve_client(&names, client);
                    drop(guard);
                });
            }
        })?;
    serve_udp(&names, &udp, &busy)
}

fn serve_udp(names: &Names, socket: &UdpSocket, busy: &Arc<AtomicUsize>) -> io::Result<()> {
    let mut buffer = [0; MAX_QUESTION];
    loop {
        let (len, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            // An ICMP error about an earlier answer.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error),
        };
        let question = &buffer[..len];
        let zone = names.zone();
        match answer(&zone, question, true) {
            // An answer that can't be sent is lost, as UDP may.
            Reply::Message(message) => drop(socket.send_to(&message, from)),
            Reply::Forward => forward_udp(&zone, socket, (question, None), from, busy),
            Reply::Follow(further) => {
                forward_udp(&zone, socket, (question, Some(further)), from, busy);
            }
            Reply::Nothing => {}
        }
    }
}

/// Answers with what the forwarder says to the question, or to the one that it led to.
fn forward_udp(
    zone: &Arc<Zone>,
    socket: &UdpSocket,
    (question, further): (&[u8], Option<Vec<u8>>),
    from: SocketAddr,
    busy: &Arc<AtomicUsize>,
) {
    let (Some(server), Some(guard)) = (zone.forward, Busy::begin(busy)) else {
        return;
    };
    let Ok(socket) = socket.try_clone() else {
        return;
    };
    let question = question.to_vec();
    let zone = Arc::clone(zone);
    // Without a thread the question is lost, and asked again.
    let _ = std::thread::Builder::new().spawn(move || {
        let said = ask(server, further.as_deref().unwrap_or(&question));
        let message = match (said, further) {
            (Ok(said), None) => Reply::Message(said),
            (Ok(said), Some(_)) => answer_with(&zone, &question, true, Some(&said)),
            (Err(_), _) => Reply::Nothing,
        };
        if let Reply::Message(message) = message {
            drop(socket.send_to(&message, from));
        }
        drop(guard);
    });
}

/// The forwarder's answer to a question, by a port of its own.
fn ask(server: Ipv4Addr, question: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((server, PORT))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(question)?;
    let mut buffer = vec![0; MAX_QUESTION];
    loop {
        let len = socket.recv(&mut buffer)?;
        // Of the same id: what else comes is no answer to this.
        if len >= 2 && buffer.get(..2) == question.get(..2) {
            buffer.truncate(len);
            return Ok(buffer);
        }
    }
}

fn serve_client(names: &Names, mut client: TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    loop {
        let mut len = [0; 2];
        client.read_exact(&mut len)?;
        let mut question = vec![0; usize::from(u16::from_be_bytes(len))];
        client.read_exact(&mut question)?;
        let zone = names.zone();
        let message = match (answer(&zone, &question, false), zone.forward) {
            (Reply::Message(message), _) => message,
            (Reply::Forward, Some(server)) => ask(server, &question)?,
            (Reply::Follow(further), Some(server)) => {
                let said = ask(server, &further)?;
                match answer_with(&zone, &question, false, Some(&said)) {
                    Reply::Message(message) => message,
                    _ => return Ok(()),
                }
            }
            _ => return Ok(()),
        };
        let len = u16::try_from(message.len()).map_err(io::Error::other)?;
        // In one segment: some clients read no further than the first.
        client.write_all(&[&len.to_be_bytes()[..], &message].concat())?;
    }
}

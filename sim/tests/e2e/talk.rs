//! Real programs with TCP connections between them, who say what they are told to say when they are told.
//!
//! Orders come by named pipes, so that nothing here depends on how fast anything is. Whatever the client says the server
//! repeats, with the client's address as it sees it; what the server is told to say all of its clients hear.

use std::fs::{File, OpenOptions};
use std::io::Write as _;

use crate::harness::{Background, Lab, Need};

const PROGRAM: &str = r"
import socket, sys, threading
role, orders = sys.argv[1], sys.argv[2]
there = []
def serve(s, peer):
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    there.append(s)
    print('connected', peer[0], peer[1], flush=True)
    for line in s.makefile():
        print('heard', line, end='', flush=True)
        if role == 'serve':
            s.sendall(('%s from %s %d\n' % (line.strip(), peer[0], peer[1])).encode())
    print('closed', flush=True)
def obey():
    for order in open(orders):
        for s in there:
            s.sendall(order.encode())
threading.Thread(target=obey, daemon=True).start()
if role == 'serve':
    listener = socket.create_server(('', int(sys.argv[3])))
    print('listening', flush=True)
    while True:
        threading.Thread(target=serve, args=listener.accept(), daemon=True).start()
s = socket.create_connection((sys.argv[3], int(sys.argv[4])), 20, ('', int(sys.argv[5])))
s.settimeout(None)
serve(s, s.getpeername())
";

/// A client, or a server.
#[derive(Debug)]
pub(crate) struct Talker {
    program: Background,
    orders: File,
}

impl Talker {
    fn start(lab: &Lab<'_>, place: &str, name: &str, role: &str, rest: &[&str]) -> Self {
        let world = lab.world;
        let script = world.file("talk.py", PROGRAM);
        let pipe = world.path(name);
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::Mode::from_raw_mode(0o666),
        )
        .expect("a named pipe can be made");
        // Read and write, so that it opens before the other side does.
        let orders = OpenOptions::new().read(true).write(true).open(&pipe);
        let path = pipe.to_str().expect("a temporary path is UTF-8");
        let mut words = vec!["exec", place, "--", "python3", &script, role, path];
        words.extend(rest);
        Self {
            program: lab.spawn(&words),
            orders: orders.expect("a named pipe can be opened"),
        }
    }

    /// A server in `place` that listens on `port` already.
    pub(crate) fn serve(lab: &Lab<'_>, place: &str, name: &str, port: u16) -> Self {
        let mut server = Self::start(lab, place, name, "serve", &[&port.to_string()]);
        server.program.wait_for_line("listening");
        server
    }

    /// A client in `place` that is connected already; `sport` 0 is any.
    pub(crate) fn connect(
        lab: &Lab<'_>,
        place: &str,
        name: &str,
        (to, port): (&str, u16),
        sport: u16,
    ) -> Self {
        let rest = [to, &port.to_string(), &sport.to_string()];
        let mut client = Self::start(lab, place, name, "connect", &rest);
        client.program.wait_for_line("connected");
        client
    }

    /// Has it say a word.
    pub(crate) fn say(&mut self, word: &str) {
        writeln!(self.orders, "{word}").expect("a named pipe takes a line");
    }

    /// Waits until it has heard a line that begins so; what came before is forgotten.
    #[track_caller]
    pub(crate) fn hears(&mut self, word: &str) {
        self.program.wait_for_line(&format!("heard {word}"));
    }
}

/// What programs on both ends need.
pub(crate) const NEEDS: [Need; 2] = [Need::Tap, Need::Tool("python3")];

//! A web server that has one page: who was asked and who asks. Answers one request per connection.

use core::fmt;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;
use smoltcp::time::Duration;

use super::{Service, SocketSet};

const PORT: u16 = 80;

/// Connections at a time; further ones are refused until one ends.
const CONNECTIONS: usize = 16;

/// Longest request header that is waited for, bytes.
const MAX_REQUEST: usize = 4096;

/// A connection on which nothing is answered for so long ends.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) struct Http {
    sockets: Vec<SocketHandle>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

impl Http {
    pub(super) fn new(sockets: &mut SocketSet<'static>) -> Self {
        let buffer = |bytes| tcp::SocketBuffer::new(vec![0; bytes]);
        let mut handles = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let mut socket = tcp::Socket::new(buffer(MAX_REQUEST), buffer(1024));
            socket.set_timeout(Some(PATIENCE));
            socket.set_keep_alive(Some(PATIENCE / 3));
            listen(&mut socket);
            handles.push(sockets.add(socket));
        }
        Self { sockets: handles }
    }
}

impl Service for Http {
    fn run(&mut self, sockets: &mut SocketSet<'static>) {
        for &handle in &self.sockets {
            serve(sockets.get_mut::<tcp::Socket<'_>>(handle));
        }
    }
}

fn listen(socket: &mut tcp::Socket<'_>) {
    // Fails only for an open socket or port 0.
    let _ = socket.listen(PORT);
}

fn serve(socket: &mut tcp::Socket<'_>) {
    if matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait) {
        // Waiting out TIME-WAIT would keep one of few sockets busy for nothing: the peer closes first or not at all.
        socket.abort();
        listen(socket);
        return;
    }
    if !socket.can_recv() {
        if socket.state() == tcp::State::CloseWait {
            socket.close();
        }
        return;
    }
    let full = socket.recv_queue() >= socket.recv_capacity();
    let request = socket.recv(|bytes| match read_request(bytes) {
        Request::Partial if !full => (0, Request::Partial),
        Request::Partial => (bytes.len(), Request::Bad),
        whole => (bytes.len(), whole),
    });
    let (status, with_body) = match request {
        Ok(Request::Get) => ("200 OK", true),
        Ok(Request::Head) => ("200 OK", false),
        Ok(Request::Bad) => ("400 Bad Request", true),
        Ok(Request::Partial) | Err(_) => return,
    };
    let (Some(local), Some(remote)) = (socket.local_endpoint(), socket.remote_endpoint()) else {
        return;
    };
    let body = format!(
        "This is {} in the simulated internet of podwire.\nYou are {remote}.\n",
        local.addr
    );
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nServer: podwire\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if with_body {
        answer.push_str(&body);
    }
    // The buffer is empty and longer than the answer.
    let _ = socket.send_slice(answer.as_bytes());
    socket.close();
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Partial,
    Get,
    Head,
    Bad,
}

fn read_request(bytes: &[u8]) -> Request {
    if !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        return Request::Partial;
    }
    match bytes.split(|&b| b == b' ').next() {
        Some(b"GET") => Request::Get,
        Some(b"HEAD") => Request::Head,
        _ => Request::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request counts when its header is whole.
    #[test]
    fn requests_are_told_apart() {
        assert_eq!(read_request(b"GET / HTTP/1.1\r\n"), Request::Partial);
        assert_eq!(read_request(b"GET / HTTP/1.1\r\n\r\n"), Request::Get);
        assert_eq!(
            read_request(b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\nmore"),
            Request::Head
        );
        assert_eq!(read_request(b"\x16\x03\x01\r\n\r\n"), Request::Bad);
        assert_eq!(read_request(b""), Request::Partial);
    }
}

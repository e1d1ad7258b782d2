//! Port 53 over UDP and TCP, on a thread of its own inside the node's namespace.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::oneshot;

use super::super::netns::Netns;
use super::Book;
use super::answer::{Reply, reply};

type SharedBook = Arc<Mutex<Book>>;

/// Stops when it is dropped.
pub(super) struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(node: &Arc<Netns>, addresses: &[IpAddr], book: SharedBook) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (ready_sender, ready) = mpsc::channel();
        let node = Arc::clone(node);
        let addresses = addresses.to_vec();
        let thread = std::thread::spawn(move || {
            node.enter();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("failed to build the DNS server's runtime");
            runtime.block_on(async {
                ready_sender.send(listen(&addresses, &book).await).ok();
                stopped.await.ok();
            });
        });
        let listening = ready.recv().expect("the DNS server's thread died");
        listening.expect("failed to listen on the DNS port");
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

async fn listen(addresses: &[IpAddr], book: &SharedBook) -> io::Result<()> {
    for &address in addresses {
        let address = SocketAddr::new(address, 53);
        let udp = UdpSocket::bind(address).await?;
        let tcp = TcpListener::bind(address).await?;
        tokio::spawn(serve_udp(Arc::new(udp), Arc::clone(book)));
        tokio::spawn(serve_tcp(tcp, Arc::clone(book)));
    }
    Ok(())
}

fn reply_now(book: &SharedBook, bytes: &[u8], from: SocketAddr, tcp: bool) -> Option<Reply> {
    let mut book = book.lock().expect("no holder of the DNS book panics");
    reply(&mut book, bytes, from, tcp)
}

async fn serve_udp(socket: Arc<UdpSocket>, book: SharedBook) {
    let mut buffer = vec![0; 4096];
    loop {
        // An ICMP answer to an earlier reply comes as an error here: of no interest.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let Some(reply) = reply_now(&book, &buffer[..length], from, false) else {
            continue;
        };
        let socket = Arc::clone(&socket);
        tokio::spawn(async move {
            tokio::time::sleep(reply.after).await;
            socket.send_to(&reply.bytes, from).await.ok();
        });
    }
}

async fn serve_tcp(listener: TcpListener, book: SharedBook) {
    loop {
        if let Ok((stream, from)) = listener.accept().await {
            tokio::spawn(serve_connection(stream, from, Arc::clone(&book)));
        }
    }
}

/// Queries of one connection in turn, until the client ends it.
async fn serve_connection(mut stream: TcpStream, from: SocketAddr, book: SharedBook) -> io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut query = vec![0; usize::from(length)];
        stream.read_exact(&mut query).await?;
        let Some(reply) = reply_now(&book, &query, from, true) else {
            continue;
        };
        tokio::time::sleep(reply.after).await;
        let length = u16::try_from(reply.bytes.len()).map_err(io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend(reply.bytes);
        stream.write_all(&framed).await?;
    }
}

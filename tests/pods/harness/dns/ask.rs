//! A raw query, as `dig` would send it from inside a pod.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, Query};
use hickory_resolver::proto::rr::Name;

use super::super::pod::Pod;
use super::RecordType;

const DEADLINE: Duration = Duration::from_secs(3);

pub(super) fn ask(from: &Pod, name: &str, kind: RecordType, tcp: bool) -> Result<Message, String> {
    let name = Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).map_err(|e| format!("{name}: {e}"))?;
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name, kind));
    let bytes = query.to_vec().map_err(|e| e.to_string())?;
    let server = SocketAddr::new(from.dns_server(), 53);
    let answer = from.in_pod(|| {
        let answer = if tcp { over_tcp(server, &bytes) } else { over_udp(server, &bytes) };
        answer.map_err(|e| format!("no answer of {server}: {e}"))
    })?;
    let answer = Message::from_vec(&answer).map_err(|e| e.to_string())?;
    if answer.metadata.id != query.metadata.id {
        return Err("the answer is to another query".to_owned());
    }
    Ok(answer)
}

fn over_udp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.connect(server)?;
    socket.send(query)?;
    let mut buffer = vec![0; 65536];
    let length = socket.recv(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn over_tcp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let length = u16::try_from(query.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

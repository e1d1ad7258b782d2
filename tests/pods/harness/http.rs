//! A HTTP/1.1 GET from whatever network namespace the calling thread is in.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

#[derive(Clone, Debug)]
pub struct HttpAnswer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl HttpAnswer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

trait Connection: Read + Write {}

impl<T: Read + Write> Connection for T {}

/// How to dial with TLS, and the name that the certificate has to have.
pub type Secure = (Arc<ClientConfig>, String);

pub fn get(address: SocketAddr, secure: Option<Secure>, path: &str, deadline: Duration) -> Result<HttpAnswer, String> {
    let failed = |what: &str, e: std::io::Error| format!("GET {address}{path}: {what}: {e}");
    let tcp = TcpStream::connect_timeout(&address, deadline).map_err(|e| failed("connect", e))?;
    tcp.set_read_timeout(Some(deadline))
        .and_then(|()| tcp.set_write_timeout(Some(deadline)))
        .map_err(|e| failed("set a deadline", e))?;
    let mut stream: Box<dyn Connection> = match secure {
        None => Box::new(tcp),
        Some((config, host)) => {
            let mut config = ClientConfig::clone(&config);
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            let name = ServerName::try_from(host).expect("a host name");
            let tls = ClientConnection::new(Arc::new(config), name).map_err(|e| e.to_string())?;
            Box::new(StreamOwned::new(tls, tcp))
        }
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|e| failed("write", e))?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(|e| failed("read", e))?;
    parse(&bytes).ok_or_else(|| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        format!("GET {address}{path}: not an HTTP answer: {text:?}")
    })
}

fn parse(bytes: &[u8]) -> Option<HttpAnswer> {
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..split]).ok()?;
    let body = &bytes[split + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked { dechunk(body)? } else { body.to_vec() };
    Some(HttpAnswer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|window| window == b"\r\n")?;
        let line = std::str::from_utf8(&rest[..line_end]).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[line_end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

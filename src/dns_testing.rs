//! For the tests: a DNS server that answers real packets, well or badly, and writes down what it was asked.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

use crate::intent::tests::intent_of;
use crate::intent::{Discovery, Intent};
use crate::local::LocalAddresses;

/// How the server behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mood {
    /// As its zone says.
    Good,
    /// Everything fails with this code.
    Code(ResponseCode),
    /// SRV questions for the TLS name fail with this code, all else is good.
    SslCode(ResponseCode),
    /// No answer.
    Silent,
    /// The right ID and then noise.
    Garbage,
    /// A good answer under the wrong ID.
    WrongId,
    /// Such an answer, and then the good one.
    WrongIdThenGood,
    /// FORMERR to whatever has EDNS, with the question or with the header alone.
    NoEdns { header_only: bool },
    /// SRV answers without the targets' addresses.
    NoGlue,
}

#[derive(Debug)]
struct Inner {
    mood: Mood,
    zone: BTreeMap<String, Vec<RData>>,
    asked: Vec<String>,
}

/// The server, on a port of its own on the loopback address, over UDP and TCP.
#[derive(Clone, Debug)]
pub(crate) struct FakeDns {
    pub(crate) address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    _tasks: Arc<Vec<Task>>,
}

#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl FakeDns {
    pub(crate) async fn start(mood: Mood) -> Self {
        // A port that is free for both.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let inner = Arc::new(Mutex::new(Inner { mood, zone: BTreeMap::new(), asked: Vec::new() }));
        let serve = [tokio::spawn(serve_udp(udp, inner.clone())), tokio::spawn(serve_tcp(tcp, inner.clone()))];
        Self { address, inner, _tasks: Arc::new(serve.into_iter().map(Task).collect()) }
    }

    pub(crate) fn set_mood(&self, mood: Mood) {
        self.inner.lock().unwrap().mood = mood;
    }

    /// Publishes addresses under an absolute name.
    pub(crate) fn publish(&self, name: &str, addresses: &[&str]) {
        let data = addresses.iter().map(|address| match address.parse().unwrap() {
            IpAddr::V4(ipv4) => RData::A(A(ipv4)),
            IpAddr::V6(ipv6) => RData::AAAA(AAAA(ipv6)),
        });
        self.inner.lock().unwrap().zone.entry(name.to_owned()).or_default().extend(data);
    }

    pub(crate) fn withdraw(&self, name: &str) {
        self.inner.lock().unwrap().zone.remove(name);
    }

    pub(crate) fn publish_srv(&self, name: &str, targets: &[&str]) {
        let data = targets.iter().map(|target| RData::SRV(SRV::new(0, 10, 2380, Name::from_ascii(target).unwrap())));
        self.inner.lock().unwrap().zone.entry(name.to_owned()).or_default().extend(data);
    }

    pub(crate) fn publish_alias(&self, name: &str, target: &str) {
        let data = RData::CNAME(CNAME(Name::from_ascii(target).unwrap()));
        self.inner.lock().unwrap().zone.entry(name.to_owned()).or_default().push(data);
    }

    /// `udp A etcd-0.etcd.ns.svc.cluster.local.` and so on.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.inner.lock().unwrap().asked.clone()
    }

    pub(crate) fn forget_asked(&self) {
        self.inner.lock().unwrap().asked.clear();
    }
}

async fn serve_udp(socket: UdpSocket, inner: Arc<Mutex<Inner>>) {
    let mut buffer = [0; 4096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        for answer in answers(&buffer[..length], &inner, "udp") {
            socket.send_to(&answer, from).await.unwrap();
        }
    }
}

async fn serve_tcp(listener: TcpListener, inner: Arc<Mutex<Inner>>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let Ok(length) = stream.read_u16().await else { continue };
        let mut question = vec![0; usize::from(length)];
        stream.read_exact(&mut question).await.unwrap();
        for answer in answers(&question, &inner, "tcp") {
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    }
}

fn answers(question: &[u8], inner: &Mutex<Inner>, transport: &str) -> Vec<Vec<u8>> {
    let question = Message::from_vec(question).unwrap();
    let query = question.queries[0].clone();
    let mut inner = inner.lock().unwrap();
    inner.asked.push(format!("{transport} {} {}", query.query_type(), query.name()));
    let good = || {
        let message = inner.answer(&question, &query);
        let bytes = message.to_vec().unwrap();
        let limit = usize::from(question.edns.as_ref().map_or(512, |edns| edns.max_payload()));
        if transport == "tcp" || bytes.len() <= limit { bytes } else { message.truncate().to_vec().unwrap() }
    };
    let wrong_id = || {
        let mut bytes = good();
        bytes[0] ^= 0xff;
        bytes
    };
    let code = |code: ResponseCode, with_question: bool| {
        let mut message = Message::error_msg(question.metadata.id, OpCode::Query, code);
        message.add_queries(with_question.then(|| query.clone()));
        message.to_vec().unwrap()
    };
    match inner.mood {
        Mood::Silent => vec![],
        Mood::Code(response) => vec![code(response, true)],
        Mood::SslCode(response) if query.name().to_ascii().starts_with("_etcd-server-ssl") => {
            vec![code(response, true)]
        }
        Mood::Garbage => vec![[question.metadata.id.to_be_bytes().to_vec(), vec![0xff; 30]].concat()],
        Mood::WrongId => vec![wrong_id()],
        Mood::WrongIdThenGood => vec![vec![7], wrong_id(), good()],
        Mood::NoEdns { header_only } if question.edns.is_some() => vec![code(ResponseCode::FormErr, !header_only)],
        Mood::Good | Mood::SslCode(_) | Mood::NoEdns { .. } | Mood::NoGlue => vec![good()],
    }
}

impl Inner {
    fn answer(&self, question: &Message, query: &Query) -> Message {
        let mut message = Message::response(question.metadata.id, OpCode::Query);
        message.metadata.authoritative = true;
        message.add_query(query.clone());
        let mut name = query.name().clone();
        for _ in 0..4 {
            let Some(data) = self.zone.get(&name.to_ascii()) else {
                message.metadata.response_code = ResponseCode::NXDomain;
                return message;
            };
            message.add_answers(self.records(&name, data, query.query_type()));
            match &data[..] {
                [RData::CNAME(target)] => {
                    message.add_answer(Record::from_rdata(name, 5, data[0].clone()));
                    name = target.0.clone();
                }
                _ => break,
            }
        }
        let targets = message.answers.iter().filter_map(|record| match &record.data {
            RData::SRV(srv) if self.mood != Mood::NoGlue => Some(srv.target.clone()),
            _ => None,
        });
        for target in targets.collect::<Vec<_>>() {
            let data = self.zone.get(&target.to_ascii()).cloned().unwrap_or_default();
            message.add_additionals(data.into_iter().map(|data| Record::from_rdata(target.clone(), 5, data)));
        }
        message
    }

    fn records(&self, name: &Name, data: &[RData], kind: RecordType) -> Vec<Record> {
        let fitting = data.iter().filter(|data| data.record_type() == kind);
        fitting.map(|data| Record::from_rdata(name.clone(), 5, data.clone())).collect()
    }
}

/// The domain of [`intent`]'s service.
pub(crate) const DOMAIN: &str = "etcd.ns.svc.cluster.local.";

/// A pod of a cluster with this many founders, whose peers are at `http://etcd-N.etcd.ns.svc:2380`.
pub(crate) fn intent(ordinal: u32, founders: u32, discovery: Discovery) -> Intent {
    Intent { discovery, ..intent_of("ns", ordinal, founders) }
}

/// A pod's addresses.
pub(crate) fn local(addresses: &[&str]) -> LocalAddresses {
    addresses.iter().map(|address| address.parse::<IpAddr>().unwrap()).collect()
}

//! From a query to an answer: the zone's records, or what a fault makes of them.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::proto::op::{Edns, Message};
use hickory_resolver::proto::rr::rdata::{PTR, SOA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record};

use super::faults::Effect;
use super::zone::{Found, Wanted, Zone};
use super::{Book, Query, RecordType, ResponseCode};

/// CoreDNS's default for the kubernetes plugin.
const TTL_SECONDS: u32 = 5;
const UDP_SIZE_WITHOUT_EDNS: usize = 512;

/// Bytes to send, and how long after the query.
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    pub(super) after: Duration,
}

/// Answers and logs one query; nothing where the server stays silent.
pub(super) fn reply(book: &mut Book, bytes: &[u8], from: SocketAddr, tcp: bool) -> Option<Reply> {
    let request = Message::from_vec(bytes).ok()?;
    let question = request.queries.first()?;
    let (name, kind) = (question.name.to_ascii(), question.query_type);
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let client = book.log.client(from.ip().to_canonical());
    let effects = book.faults.effects(&client, &name, kind);
    let mut response = answer(&book.zone, &request, &question.name, &name, kind);
    apply(&effects, &mut response, tcp);
    let limit = if tcp { usize::MAX } else { udp_limit(book, &request) };
    let bytes = encode(&mut response, limit);
    let silent = effects.contains(&Effect::Silent);
    book.log.queries.push(Query {
        at: Instant::now(),
        client,
        tcp,
        kind,
        name,
        outcome: outcome(&response, silent),
        answers: response.answers.len(),
    });
    let after = effects.iter().map(|effect| match effect {
        Effect::Delayed(delay) => *delay,
        _ => Duration::ZERO,
    });
    let after = after.sum();
    (!silent).then_some(Reply { bytes, after })
}

fn outcome(response: &Message, silent: bool) -> String {
    let code = response.metadata.response_code;
    match (silent, response.metadata.truncation) {
        (true, _) => "silent".to_owned(),
        (false, true) => format!("{code} tc"),
        (false, false) => code.to_string(),
    }
}

fn udp_limit(book: &Book, request: &Message) -> usize {
    let offered = request.edns.as_ref().map_or(UDP_SIZE_WITHOUT_EDNS, |edns| usize::from(edns.max_payload()));
    book.udp_size.min(offered.max(UDP_SIZE_WITHOUT_EDNS))
}

/// The truth.
fn answer(zone: &Zone, request: &Message, asked: &Name, name: &str, kind: RecordType) -> Message {
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.authoritative = true;
    response.add_queries(request.queries.iter().cloned());
    if let Some(edns) = &request.edns {
        let mut own = Edns::new();
        own.set_max_payload(edns.max_payload());
        response.set_edns(own);
    }
    let found = match asked.parse_arpa_name() {
        Ok(net) if kind == RecordType::PTR => zone.find_host(net.addr()),
        _ => zone.find(name, wanted(kind)),
    };
    fill(&mut response, asked, kind, found);
    // As CoreDNS's loadbalance plugin: no client may rely on an order.
    let turn = usize::from(request.metadata.id) % response.answers.len().max(1);
    response.answers.rotate_left(turn);
    if response.answers.is_empty() {
        response.add_authority(start_of_authority());
    }
    response
}

fn wanted(kind: RecordType) -> Wanted {
    match kind {
        RecordType::A | RecordType::AAAA => Wanted::Address,
        RecordType::SRV => Wanted::Service,
        _ => Wanted::Other,
    }
}

fn fill(response: &mut Message, asked: &Name, kind: RecordType, found: Found) {
    match found {
        Found::NoSuchName => response.metadata.response_code = ResponseCode::NXDomain,
        Found::NoData => {}
        Found::Addresses(addresses) => {
            let of_kind = |address: &IpAddr| address.is_ipv4() == (kind == RecordType::A);
            for address in addresses.into_iter().filter(of_kind) {
                response.add_answer(address_record(asked, address));
            }
        }
        Found::Services(services) => {
            let weight = 100 / u16::try_from(services.len().max(1)).unwrap_or(100);
            for (port, host, addresses) in services {
                let host = absolute(&host);
                let data = RData::SRV(SRV::new(0, weight, port, host.clone()));
                response.add_answer(Record::from_rdata(asked.clone(), TTL_SECONDS, data));
                for address in addresses {
                    let record = address_record(&host, address);
                    if !response.additionals.contains(&record) {
                        response.add_additional(record);
                    }
                }
            }
        }
        Found::Hosts(hosts) => {
            for host in hosts {
                let data = RData::PTR(PTR(absolute(&host)));
                response.add_answer(Record::from_rdata(asked.clone(), TTL_SECONDS, data));
            }
        }
    }
}

fn absolute(name: &str) -> Name {
    Name::from_ascii(format!("{name}.")).expect("pods have valid names")
}

fn address_record(name: &Name, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(v4) => RData::A(v4.into()),
        IpAddr::V6(v6) => RData::AAAA(v6.into()),
    };
    Record::from_rdata(name.clone(), TTL_SECONDS, data)
}

fn start_of_authority() -> Record {
    let soa = SOA::new(
        absolute("ns.dns.cluster.local"),
        absolute("hostmaster.cluster.local"),
        1_700_000_000,
        7200,
        1800,
        86400,
        TTL_SECONDS,
    );
    Record::from_rdata(absolute("cluster.local"), TTL_SECONDS, RData::SOA(soa))
}

/// What faults make of the truth.
fn apply(effects: &[Effect], response: &mut Message, tcp: bool) {
    for effect in effects {
        match effect {
            Effect::Code(code) => {
                clear(response);
                response.metadata.response_code = *code;
                if *code == ResponseCode::NXDomain {
                    response.add_authority(start_of_authority());
                }
            }
            Effect::NoData => {
                clear(response);
                response.metadata.response_code = ResponseCode::NoError;
                response.add_authority(start_of_authority());
            }
            Effect::Truncated if !tcp => {
                clear(response);
                response.metadata.truncation = true;
            }
            Effect::Truncated | Effect::Silent | Effect::Delayed(_) => {}
        }
    }
}

fn clear(response: &mut Message) {
    response.answers.clear();
    response.authorities.clear();
    response.additionals.clear();
}

/// As CoreDNS truncates: additionals go first, then answers, and the TC bit says so.
fn encode(response: &mut Message, limit: usize) -> Vec<u8> {
    loop {
        let bytes = response.to_vec().expect("an answer can be encoded");
        let droppable = response.additionals.len() + response.answers.len();
        if bytes.len() <= limit || droppable == 0 {
            return bytes;
        }
        response.metadata.truncation = true;
        if response.additionals.pop().is_none() {
            response.answers.pop();
        }
    }
}

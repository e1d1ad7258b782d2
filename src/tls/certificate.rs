//! What a certificate says of itself, as far as webpki does not tell: its dates, its subject's common name, what its key
//! may do, and all its names. Nothing here verifies anything.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
/// The curve P-521, as a whole element.
const P521: &[u8] = &[OBJECT_ID, 5, 0x2b, 0x81, 0x04, 0x00, 0x23];

/// What a certificate is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    Server,
    Client,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server authentication",
            Self::Client => "client authentication",
        })
    }
}

/// The facts of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its serial number, as DER has it.
    pub(super) serial: Vec<u8>,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    pub(super) common_name: Option<String>,
    /// DNS names and addresses (SAN).
    pub(super) names: Vec<String>,
    is_v3: bool,
    is_ca: Option<bool>,
    signs_certificates: Option<bool>,
    usages: Option<Vec<Vec<u8>>>,
}

impl Facts {
    /// Reads them; none where this is no certificate.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let mut certificate = Reader(Reader(der).element(SEQUENCE)?);
        let mut signed = Reader(certificate.element(SEQUENCE)?);
        let version = signed.optional(VERSION)?;
        let serial = signed.element(INTEGER)?;
        let _algorithm = signed.element(SEQUENCE)?;
        let _issuer = signed.element(SEQUENCE)?;
        let mut validity = Reader(signed.element(SEQUENCE)?);
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let subject = signed.element(SEQUENCE)?;
        let _key = signed.element(SEQUENCE)?;
        let mut facts = Self {
            serial: serial.to_vec(),
            not_before,
            not_after,
            common_name: common_name(subject),
            names: Vec::new(),
            is_v3: version.is_some_and(|version| version.ends_with(&[2])),
            is_ca: None,
            signs_certificates: None,
            usages: None,
        };
        // Two unique IDs, which nobody uses, may come before the extensions.
        while !signed.0.is_empty() {
            let (tag, content) = signed.next()?;
            if tag == EXTENSIONS {
                facts.read_extensions(Reader(content).element(SEQUENCE)?)?;
            }
        }
        Some(facts)
    }

    fn read_extensions(&mut self, extensions: &[u8]) -> Option<()> {
        for extension in Reader(extensions).all(SEQUENCE)? {
            let mut extension = Reader(extension);
            let id = extension.element(OBJECT_ID)?;
            let _critical = extension.optional(BOOLEAN)?;
            let mut value = Reader(extension.element(OCTET_STRING)?);
            match id {
                BASIC_CONSTRAINTS => {
                    let mut constraints = Reader(value.element(SEQUENCE)?);
                    self.is_ca = Some(constraints.optional(BOOLEAN)?.is_some_and(|is_ca| is_ca != [0]));
                }
                // The first byte counts unused bits; keyCertSign is bit 5 from the left.
                KEY_USAGE => {
                    let bits = value.element(BIT_STRING)?;
                    self.signs_certificates = Some(bits.get(1).is_some_and(|bits| bits & 0x04 != 0));
                }
                EXTENDED_KEY_USAGE => {
                    let usages = Reader(value.element(SEQUENCE)?).all(OBJECT_ID)?;
                    self.usages = Some(usages.into_iter().map(<[u8]>::to_vec).collect());
                }
                SUBJECT_ALT_NAME => self.names = names(value.element(SEQUENCE)?)?,
                _ => {}
            }
        }
        Some(())
    }

    /// Its key may sign certificates. This is Go's rule, and so etcd's: a version 3 certificate has to say so.
    pub(super) fn may_sign(&self) -> bool {
        self.is_ca.unwrap_or(!self.is_v3) && self.signs_certificates.unwrap_or(true)
    }

    /// It does not restrict its use, or allows this one.
    pub(super) fn may_be(&self, usage: Usage) -> bool {
        let wanted = match usage {
            Usage::Server => SERVER_AUTH,
            Usage::Client => CLIENT_AUTH,
        };
        self.usages.as_ref().is_none_or(|usages| usages.iter().any(|given| given == wanted || given == ANY_USAGE))
    }
}

/// The serial numbers in a revocation list (RFC 5280, section 5.1), in DER; none where this is no such list.
pub(super) fn revoked(der: &[u8]) -> Option<BTreeSet<Vec<u8>>> {
    let mut list = Reader(Reader(Reader(der).element(SEQUENCE)?).element(SEQUENCE)?);
    let _version = list.optional(INTEGER)?;
    let _algorithm = list.element(SEQUENCE)?;
    let _issuer = list.element(SEQUENCE)?;
    let _this_update = list.time()?;
    if let Some(&(UTC_TIME | GENERALIZED_TIME)) = list.0.first() {
        let _next_update = list.time()?;
    }
    let entries = Reader(list.optional(SEQUENCE)?.unwrap_or_default()).all(SEQUENCE)?;
    entries.into_iter().map(|entry| Some(Reader(entry).element(INTEGER)?.to_vec())).collect()
}

/// Whether a key or a certificate, in DER, is on the curve P-521.
pub(super) fn mentions_p521(der: &[u8]) -> bool {
    der.windows(P521.len()).any(|window| window == P521)
}

fn common_name(subject: &[u8]) -> Option<String> {
    let mut found = None;
    let mut sets = Reader(subject);
    while let Some((_, set)) = sets.next() {
        for pair in Reader(set).all(SEQUENCE)? {
            let mut pair = Reader(pair);
            if pair.element(OBJECT_ID)? == COMMON_NAME {
                // As Go has it, the last one counts.
                found = String::from_utf8(pair.next()?.1.to_vec()).ok();
            }
        }
    }
    found
}

fn names(list: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut list = Reader(list);
    while !list.0.is_empty() {
        let (tag, content) = list.next()?;
        match (tag, content.len()) {
            (DNS_NAME, _) => names.push(String::from_utf8_lossy(content).into_owned()),
            (IP_ADDRESS, 4) => names.push(IpAddr::from(<[u8; 4]>::try_from(content).ok()?).to_string()),
            (IP_ADDRESS, 16) => names.push(IpAddr::from(<[u8; 16]>::try_from(content).ok()?).to_string()),
            _ => {}
        }
    }
    Some(names)
}

/// DER: one element after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Tag and content of the next element.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            short @ ..=0x7f => (usize::from(short), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn element(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// The outer option says whether this is DER, the inner one whether the element is there.
    fn optional(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        match self.0.first() {
            Some(found) if *found == tag => self.element(tag).map(Some),
            _ => Some(None),
        }
    }

    fn all(mut self, tag: u8) -> Option<Vec<&'a [u8]>> {
        let mut elements = Vec::new();
        while !self.0.is_empty() {
            elements.push(self.element(tag)?);
        }
        Some(elements)
    }

    /// `YYMMDDhhmmssZ` (1950 to 2049) or `YYYYMMDDhhmmssZ`.
    fn time(&mut self) -> Option<SystemTime> {
        let (tag, text) = self.next()?;
        let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
        let (year, rest) = match tag {
            UTC_TIME => {
                let (year, rest) = text.split_at_checked(2)?;
                let century = if year < "50" { "20" } else { "19" };
                (format!("{century}{year}"), rest)
            }
            GENERALIZED_TIME => text.split_at_checked(4).map(|(year, rest)| (year.to_owned(), rest))?,
            _ => return None,
        };
        let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| rest.get(at..at + 2));
        let text = format!("{year}-{}-{}T{}:{}:{}Z", month?, day?, hour?, minute?, second?);
        // Before 1970 is long ago either way.
        Some(humantime::parse_rfc3339(&text).unwrap_or(SystemTime::UNIX_EPOCH))
    }
}

/// A moment of a certificate, for people.
pub(super) fn shown(time: SystemTime) -> String {
    // humantime cannot show what is after the year 9999.
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(time.min(last)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds_since_1970() {
        let time = |tag: u8, text: &str| Reader(&[&[tag, text.len() as u8], text.as_bytes()].concat()).time();
        let seconds = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(time(0x18, "19700101000000Z"), seconds(0));
        assert_eq!(time(0x17, "700101000001Z"), seconds(1));
        assert_eq!(time(0x17, "240229123456Z"), seconds(1_709_210_096));
        assert_eq!(time(0x18, "20990301000000Z"), seconds(4_076_006_400));
        assert_eq!(time(0x17, "24022912345Z"), None);
        assert_eq!(time(0x18, "2024022912345x"), None);
    }
}

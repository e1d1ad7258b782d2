//! What can be done to pods, and how each ends again.

use std::time::Duration;

use crate::dice::Dice;
use crate::harness::{Fault as DnsFault, FaultId, Pod, World};

/// One kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// SIGKILL; the kubelet starts the container again.
    Crash,
    /// SIGKILL of the pod; it comes back later, with a new address.
    Kill,
    /// SIGTERM, and back later with a new address.
    Stop,
    /// Ends and is back at once with a new address.
    Move,
    /// SIGSTOP of all processes until later.
    Freeze,
    /// SIGSTOP for less than a second, as if a write to the disk hung.
    Stall,
    /// The disk is lost while the pod is down.
    Wipe,
    /// Cut off from all others, and from the DNS.
    Isolate,
    /// Two pods do not reach each other.
    CutPair,
    /// Two groups do not reach each other.
    Split,
    /// A narrow link.
    Narrow,
    /// The DNS server fails or lies.
    Dns,
    /// One more pod.
    ScaleOut,
    /// The highest pod leaves.
    ScaleIn,
    /// Every pod is killed, and all come back.
    Outage,
    /// The same, and a disk is lost meanwhile.
    OutageAndWipe,
}

/// How often each happens, in relation to the others.
const WEIGHTS: [(Kind, usize); 16] = [
    (Kind::Crash, 12),
    (Kind::Kill, 10),
    (Kind::Stop, 8),
    (Kind::Move, 8),
    (Kind::Freeze, 8),
    (Kind::Stall, 8),
    (Kind::Wipe, 8),
    (Kind::Isolate, 6),
    (Kind::CutPair, 6),
    (Kind::Split, 5),
    (Kind::Narrow, 5),
    (Kind::Dns, 14),
    (Kind::ScaleOut, 4),
    (Kind::ScaleIn, 4),
    (Kind::Outage, 3),
    (Kind::OutageAndWipe, 3),
];

pub(super) fn any(dice: &mut Dice) -> Kind {
    let all: Vec<Kind> = WEIGHTS.iter().flat_map(|(kind, weight)| std::iter::repeat_n(*kind, *weight)).collect();
    dice.pick(&all).unwrap_or(Kind::Crash)
}

/// Trouble that costs no disk and changes no number of pods.
pub(super) fn passing(dice: &mut Dice) -> Kind {
    loop {
        let kind = any(dice);
        let lasts = [Kind::Wipe, Kind::ScaleOut, Kind::ScaleIn, Kind::Outage, Kind::OutageAndWipe];
        if !lasts.contains(&kind) {
            return kind;
        }
    }
}

/// Trouble that lasts.
pub(super) enum Open {
    Down(Pod),
    Frozen(Pod),
    Isolated(Pod),
    Cut(Pod, Pod),
    Split(Vec<Pod>, Vec<Pod>),
    Narrow(Pod),
    Dns(FaultId),
    Stale,
    Withheld(Pod),
    Pointed(Pod),
    Omitted(Pod),
    Delays,
}

impl Open {
    pub(super) fn end(self, world: &World) {
        let dns = world.dns();
        match self {
            Self::Down(pod) => pod.start(),
            Self::Frozen(pod) => pod.thaw(),
            Self::Isolated(pod) => pod.heal(),
            Self::Cut(a, b) => a.heal_from(&[&b]),
            Self::Split(a, b) => a.iter().for_each(|pod| pod.heal_from(&b.iter().collect::<Vec<_>>())),
            Self::Narrow(pod) => pod.fast_link(),
            Self::Dns(fault) => dns.clear(fault),
            Self::Stale => dns.thaw_records(),
            Self::Withheld(pod) => dns.release(&pod),
            Self::Pointed(pod) => dns.repoint(&pod),
            Self::Omitted(pod) => dns.include_in_srv(&pod),
            Self::Delays => {
                dns.publication_delay(Duration::ZERO);
                dns.removal_delay(Duration::ZERO);
            }
        }
    }

    /// Whose life it is about: such trouble ends before the pod gets into more.
    pub(super) fn concerns(&self, pod: &Pod) -> bool {
        match self {
            Self::Down(own) | Self::Frozen(own) => own.name() == pod.name(),
            _ => false,
        }
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Down(pod) => format!("{} is down", pod.name()),
            Self::Frozen(pod) => format!("{} is stopped", pod.name()),
            Self::Isolated(pod) => format!("{} is cut off", pod.name()),
            Self::Cut(a, b) => format!("{} and {} do not reach each other", a.name(), b.name()),
            Self::Split(a, b) => format!("{} and {} do not reach each other", names(a), names(b)),
            Self::Narrow(pod) => format!("{} has a narrow link", pod.name()),
            Self::Dns(_) => "the DNS server fails".to_owned(),
            Self::Stale => "DNS is stale".to_owned(),
            Self::Withheld(pod) => format!("DNS has no record of {}", pod.name()),
            Self::Pointed(pod) => format!("the record of {} points elsewhere", pod.name()),
            Self::Omitted(pod) => format!("SRV leaves {} out", pod.name()),
            Self::Delays => "DNS is late".to_owned(),
        }
    }
}

pub(super) fn names(pods: &[Pod]) -> String {
    pods.iter().map(Pod::name).collect::<Vec<_>>().join("+")
}

/// One way in which the DNS server goes wrong, for a pod or for all.
pub(super) fn lie(dice: &mut Dice, world: &World, pod: &Pod, other: &Pod) -> (&'static str, Option<Open>) {
    let dns = world.dns();
    let fault = |fault: DnsFault, own: bool| {
        let fault = if own { fault.client(pod) } else { fault };
        Some(Open::Dns(dns.fault(fault)))
    };
    let own = dice.chance(50);
    match dice.below(11) {
        0 => ("DNS SERVFAIL", fault(DnsFault::servfail(), own)),
        1 => ("DNS NXDOMAIN", fault(DnsFault::nxdomain(), own)),
        2 => ("DNS empty", fault(DnsFault::nodata(), own)),
        3 => ("DNS silent", fault(DnsFault::silent(), own)),
        4 => ("DNS truncated", fault(DnsFault::truncated(), own)),
        5 => ("DNS slow", fault(DnsFault::delayed(Duration::from_millis(dice.within(50..=1500) as u64)), own)),
        6 => {
            dns.freeze_records();
            ("DNS stale", Some(Open::Stale))
        }
        7 => {
            dns.withhold(pod);
            ("DNS record withheld", Some(Open::Withheld(pod.clone())))
        }
        8 => {
            let address = other.addresses().first().copied();
            let lie = address.map(|address| {
                dns.point_at(pod, address);
                Open::Pointed(pod.clone())
            });
            ("DNS record of another", lie)
        }
        9 => {
            dns.omit_from_srv(pod);
            ("SRV partial", Some(Open::Omitted(pod.clone())))
        }
        _ => {
            dns.publication_delay(Duration::from_millis(dice.within(100..=3000) as u64));
            dns.removal_delay(Duration::from_millis(dice.within(100..=3000) as u64));
            ("DNS late", Some(Open::Delays))
        }
    }
}

//! The IDs that etcd computes when a cluster is founded, computed beforehand.
//!
//! Source: `NewMember` and `genID` in etcd's `server/etcdserver/api/membership`.

use sha1::{Digest, Sha1};

use crate::names::{ClusterId, MemberId, Url};

/// The ID of a member of a cluster that is founded statically: its sorted peer URLs, then the token.
pub fn member_id(peer_urls: &[Url], token: &str) -> MemberId {
    let mut urls: Vec<String> = peer_urls.iter().map(Url::to_string).collect();
    urls.sort();
    let mut hash = Sha1::new();
    urls.iter().for_each(|url| hash.update(url));
    hash.update(token);
    MemberId(first_u64(&hash.finalize()))
}

/// The ID of the cluster that these members found.
pub fn cluster_id(members: impl IntoIterator<Item = MemberId>) -> ClusterId {
    let mut ids: Vec<MemberId> = members.into_iter().collect();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    ids.iter().for_each(|id| hash.update(id.0.to_be_bytes()));
    ClusterId(first_u64(&hash.finalize()))
}

fn first_u64(digest: &[u8]) -> u64 {
    digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_are_those_that_etcds_own_manifest_gets() {
        let ids: Vec<String> = (0..3)
            .map(|n| format!("http://etcd-{n}.etcd:2380").parse::<Url>().unwrap())
            .map(|url| member_id(&[url], "etcd-default").to_string())
            .collect();
        assert_eq!(ids, ["a394e0ee91773643", "d10297b8d2f01265", "4f98c3545405a0b0"]);
    }

    /// What three members of etcd 3.6.16 called themselves, started with these URLs and this token.
    #[test]
    fn the_ids_are_those_that_etcd_gets() {
        let ids: Vec<MemberId> =
            (1..4).map(|n| member_id(&[format!("http://127.0.7.{n}:2380").parse().unwrap()], "etcd-check")).collect();
        let texts: Vec<String> = ids.iter().map(MemberId::to_string).collect();
        assert_eq!(texts, ["dbea72ef72758fb4", "d3fa14f439ce0a31", "835177b7a5871811"]);
        assert_eq!(cluster_id(ids.clone()).to_string(), "a51073fa0079dc73");
        assert_eq!(cluster_id(ids.into_iter().rev()).to_string(), "a51073fa0079dc73");
    }

    #[test]
    fn the_order_of_the_urls_does_not_matter() {
        let [a, b]: [Url; 2] = ["http://b:1", "http://a:1"].map(|url| url.parse().unwrap());
        assert_eq!(member_id(&[a.clone(), b.clone()], "t"), member_id(&[b, a], "t"));
    }
}

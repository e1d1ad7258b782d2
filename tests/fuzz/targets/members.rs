//! etcd's `/members`: no more comes of it than was sent.
#![no_main]

use etcd_bootstrap::peers::parse_members;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(members)) = parse_members(bytes) {
        assert!(members.len() * 3 <= bytes.len());
        for member in members {
            let urls = member.peer_urls.iter().chain(&member.client_urls);
            assert!(member.name.len() + urls.map(String::len).sum::<usize>() <= bytes.len());
            _ = member.pod();
        }
    }
});

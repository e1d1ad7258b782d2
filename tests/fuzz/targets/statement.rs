//! What a waiting peer says.
#![no_main]

use etcd_bootstrap::observation::Statement;
use etcd_bootstrap::rollcall;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(said) = serde_json::from_slice::<Statement>(bytes) {
        _ = rollcall::digest(&said);
        let text = serde_json::to_string(&said).expect("it can be said");
        assert_eq!(serde_json::from_str::<Statement>(&text).expect("it can be heard"), said);
    }
});

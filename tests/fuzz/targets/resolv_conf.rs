//! resolv.conf.
#![no_main]

use etcd_bootstrap::dns::Resolver;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    _ = Resolver::new(None, text);
});

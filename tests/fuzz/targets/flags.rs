//! etcd's flags, one a line.
#![no_main]

use std::collections::BTreeMap;

use etcd_bootstrap::flags::EtcdSettings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let args: Vec<String> = text.lines().map(str::to_owned).collect();
    _ = EtcdSettings::from_args(&args);
    _ = etcd_bootstrap::cli::parse(&args, &BTreeMap::new());
});

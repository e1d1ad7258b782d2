//! etcd's configuration file: what is written says what was read.
#![no_main]

use std::path::Path;

use etcd_bootstrap::config_file::ConfigFile;
use etcd_bootstrap::flags::EtcdSettings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(file) = ConfigFile::parse(Path::new("/c"), text) {
        _ = file.settings(&EtcdSettings::default());
        assert_eq!(ConfigFile::parse(Path::new("/c"), &file.text()).expect("it was written"), file);
    }
});

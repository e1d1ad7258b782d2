//! The images themselves.

use serde_json::Value;

use crate::harness::*;

const MIB: u64 = 1024 * 1024;

fn inspect(image: &str) -> Value {
    let text = docker(&["image", "inspect", image]).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[0].clone()
}

#[test]
fn the_image_is_etcds_and_at_most_six_mebibytes() {
    let Some(_cluster) = cluster() else { return };
    let (ours, base) = (inspect("etcd-bootstrap-test:0"), inspect(&stock_image(0)));
    let more = ours["Size"].as_u64().unwrap() - base["Size"].as_u64().unwrap();
    println!("etcd's image and {:.2} MiB", more as f64 / MIB as f64);
    assert!(more <= 6 * MIB, "{more} bytes more than etcd's image");
    assert_eq!(ours["Config"]["Entrypoint"][0], "/usr/local/bin/etcd-bootstrap");
    let labels = &ours["Config"]["Labels"];
    assert_eq!(labels["org.opencontainers.image.base.name"].as_str(), Some(stock_image(0).as_str()));
    assert_eq!(labels["org.opencontainers.image.version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(labels["org.opencontainers.image.licenses"].as_str(), Some("Apache-2.0"));

    let binary = inspect("etcd-bootstrap-binary:test");
    assert_eq!(binary["RootFS"]["Layers"].as_array().map(Vec::len), Some(1), "nothing but the program");
    assert!(binary["Size"].as_u64().unwrap() <= 6 * MIB);
}

/// The whole Dockerfile, out of this folder and a stand-in for the Rust image: minutes.
#[test]
fn the_dockerfile_compiles_the_program() {
    let Some(_cluster) = cluster() else { return };
    if !is_long() {
        println!("SKIPPED: it compiles a release; `make test-kubernetes-long` does");
        return;
    }
    run("tests/kubernetes/rust-stand-in", &["etcd-bootstrap-rust:test"]);
    let etcd = format!("ETCD_IMAGE={}", stock_image(0));
    let tag = "TAG=etcd-bootstrap-test:compiled";
    run("make", &["image", "BINARY=", "RUST_IMAGE=etcd-bootstrap-rust:test", &etcd, tag]);
    let image = inspect("etcd-bootstrap-test:compiled");
    let more = image["Size"].as_u64().unwrap() - inspect(&stock_image(0))["Size"].as_u64().unwrap();
    assert!(more <= 6 * MIB, "{more} bytes more than etcd's image");
}

fn run(program: &str, args: &[&str]) {
    let status = std::process::Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {}: {status}", args.join(" "));
}

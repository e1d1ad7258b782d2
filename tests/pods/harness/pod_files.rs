//! The files that the kubelet puts into a pod: resolv.conf, hosts, Secrets, the termination message.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use super::network::Family;
use super::spec::PodSpec;

const HOSTS_HEAD: &str = "# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
";

pub fn write(dir: &Path, spec: &PodSpec, family: Family, addresses: &[IpAddr]) {
    let etc = dir.join("etc");
    put(&etc, "resolv.conf", resolv_conf(spec, family).as_bytes());
    put(&etc, "hosts", hosts(spec, addresses).as_bytes());
    put(&etc, "hostname", format!("{}\n", spec.name).as_bytes());
    put(&etc, "passwd", b"root:x:0:0:root:/root:/sbin/nologin\n");
    put(&etc, "group", b"root:x:0:\n");
    put(&etc, "nsswitch.conf", b"hosts: files dns\n");
    put(dir, "termination-log", b"");
    let files = dir.join("files");
    fs::remove_dir_all(&files).ok();
    fs::create_dir_all(&files).expect("failed to make a pod's directory");
    if spec.has_certificate {
        for (path, content) in super::tls::files(spec) {
            put(&files, path.trim_start_matches('/'), content.as_bytes());
        }
    }
    for (path, content) in &spec.files {
        put(&files, path.trim_start_matches('/'), content);
    }
}

fn put(dir: &Path, name: &str, content: &[u8]) {
    let path = dir.join(name);
    let parent = path.parent().expect("a file is in a directory");
    fs::create_dir_all(parent).unwrap_or_else(|e| panic!("{}: {e}", parent.display()));
    fs::write(&path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

fn resolv_conf(spec: &PodSpec, family: Family) -> String {
    let server = family.dns_addresses()[0];
    let namespace = &spec.namespace;
    format!(
        "search {namespace}.svc.cluster.local svc.cluster.local cluster.local\nnameserver {server}\noptions ndots:5\n"
    )
}

fn hosts(spec: &PodSpec, addresses: &[IpAddr]) -> String {
    let own = |address: &IpAddr| format!("{address}\t{}\t{}\n", spec.domain_name(), spec.name);
    let own: String = addresses.iter().map(own).collect();
    format!("{HOSTS_HEAD}{own}")
}

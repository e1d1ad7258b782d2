//! Mutual TLS with the certificates of cert-manager.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::harness::*;

#[test]
fn the_component_founds_and_grows_a_cluster_over_mutual_tls() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::new("tls");
    space.apply(&Overlay::base().component("cert-manager"));
    let members = space.wait_for_voters(3);
    let writer = Writer::over_tls(&space, 3);
    space.scale(5);
    space.wait_for_voters(5);
    assert_eq!(space.restarts(5), [0; 5]);
    writer.nothing_is_lost(5);
    space.scale(3);
    assert_eq!(space.wait_for_voters(3), members);

    space.pod(1).lose_volume();
    assert_ne!(space.wait_for_voters(3), members);
    writer.nothing_is_lost(3);
}

/// An internal CA's certificates are renewed and extended while the pods run: whoever restarts has the new one, and the
/// others go on with the old one.
#[test]
fn a_later_name_of_an_internal_ca_cuts_nobody_off() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::new("tls-extended");
    space.apply(&Overlay::base().component("cert-manager"));
    let members = space.wait_for_voters(3);
    take_the_ca_that_stays(&space);
    let pods = space.uids(3);
    let writer = Writer::over_tls(&space, 3);
    for what in ["server", "client"] {
        let before = certificate(&space, what).unwrap();
        let name = r#"[{"op": "add", "path": "/spec/dnsNames/-", "value": "etcd-9.etcd"}]"#;
        space.kubectl(&["patch", &format!("certificate/etcd-{what}"), "--type=json", "-p", name]).unwrap();
        wait_for_another(&space, what, &before);
    }
    space.kubectl(&["delete", "pod/etcd-0"]).unwrap();
    assert_eq!(space.wait_for_voters(3), members);
    let now = space.uids(3);
    assert_ne!(now[0], pods[0]);
    assert_eq!(now[1..], pods[1..], "a running pod was replaced");
    assert_eq!(space.restarts(3), [0; 3]);
    writer.nothing_is_lost(3);
}

/// etcd's documented manifest with its commented TLS lines enabled.
fn documented_with_tls(scenario: &str) -> Overlay {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(repository.join("manifests/drop-in/etcd.yaml")).unwrap();
    let lines = manifest.replace("        - name: URI_SCHEME\n          value: \"http\"\n", "");
    let lines: Vec<String> = lines.lines().map(enabled).collect();
    let path = format!("target/kubernetes/documented-{scenario}.yaml");
    fs::create_dir_all(repository.join("target/kubernetes")).unwrap();
    fs::write(repository.join(&path), lines.join("\n") + "\n").unwrap();
    Overlay::of(&path)
}

/// A line without its `# `, unless it is prose (`##`) or about something else.
fn enabled(line: &str) -> String {
    let other = ["auto-compaction", "storageClassName"].iter().any(|word| line.contains(word));
    match line.split_once("# ") {
        // The manifest has this one two columns too far left.
        Some((indent, "value: \"https\"")) => format!("{indent}  value: \"https\""),
        Some((indent, text)) if indent.trim().is_empty() && !other => format!("{indent}{text}"),
        _ => line.to_owned(),
    }
}

/// The issuer and the certificates of that page, as they are. They name the namespace `default`, and the issuer is of the
/// whole cluster: all goes with the scenario.
struct Documented<'a>(&'a Space);

impl<'a> Documented<'a> {
    const FILES: [&'static str; 2] = ["manifests/drop-in/issuer.yaml", "manifests/drop-in/certificates.yaml"];
    const MADE: [&'static str; 5] = [
        "clusterissuer/selfsigned",
        "certificate/etcd-server",
        "certificate/etcd-client",
        "secret/etcd-server-tls",
        "secret/etcd-client-tls",
    ];

    fn apply(space: &'a Space) -> Self {
        for made in Self::MADE {
            let found = space.kubectl(&["get", made, "--ignore-not-found", "-o", "name"]).unwrap();
            assert_eq!(found.trim(), "", "there is such an object already: it is left alone");
        }
        let documented = Self(space);
        for file in Self::FILES {
            space.apply_text(&fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap());
        }
        documented
    }
}

impl Drop for Documented<'_> {
    fn drop(&mut self) {
        // The Certificates before their Secrets, which would be made again.
        for made in Self::MADE {
            if let Err(error) = self.0.kubectl(&["delete", made, "--ignore-not-found", "--timeout=60s"]) {
                println!("{error}");
            }
        }
    }
}

#[test]
fn the_documented_certificates_found_the_documented_cluster_and_a_renewal_needs_all_pods_to_restart() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::default_namespace();
    let _certificates = Documented::apply(&space);
    space.apply(&documented_with_tls("tls"));
    let members = space.wait_for_voters(3);
    assert_eq!(space.restarts(3), [0; 3]);
    let pod = space.json(&["get", "pod/etcd-0"]).unwrap().to_string();
    assert!(pod.contains("--peer-client-cert-auth") && pod.contains("https"), "{pod}");

    space.pod(1).put("kept", "yes");
    for what in ["server", "client"] {
        let before = certificate(&space, what).unwrap();
        // cert-manager makes another one in its place.
        space.kubectl(&["delete", &format!("secret/etcd-{what}-tls")]).unwrap();
        wait_for_another(&space, what, &before);
    }
    one_is_cut_off_until_all_restart(&space, &members);
    space.pod(1).has("kept", "yes");
}

/// Such certificates, each its own root, for these many pods.
fn self_signed(pods: u32) -> String {
    let names: String = (0..pods).map(|n| format!("  - etcd-{n}\n  - etcd-{n}.etcd\n")).collect();
    let issuer =
        "apiVersion: cert-manager.io/v1\nkind: Issuer\nmetadata:\n  name: selfsigned\nspec:\n  selfSigned: {}\n";
    let certificate = |name: &str| {
        format!(
            "---\napiVersion: cert-manager.io/v1\nkind: Certificate\nmetadata:\n  name: {name}\nspec:\n  \
             secretName: {name}-tls\n  issuerRef:\n    name: selfsigned\n  commonName: etcd\n  dnsNames:\n{names}"
        )
    };
    format!("{issuer}{}{}", certificate("etcd-server"), certificate("etcd-client"))
}

/// What the Secret has: `server` or `client`.
fn certificate(space: &Space, what: &str) -> Result<String, String> {
    in_secret(space, &format!("etcd-{what}-tls"), "tls\\.crt")
}

fn in_secret(space: &Space, secret: &str, file: &str) -> Result<String, String> {
    space.kubectl(&["get", &format!("secret/{secret}"), "-o", &format!("jsonpath={{.data.{file}}}")])
}

#[track_caller]
fn wait_for_another(space: &Space, what: &str, before: &str) {
    eventually(SOON, "a new certificate", || match certificate(space, what)? {
        same if same == before => Err("the old one".to_owned()),
        _ => Ok(()),
    });
}

/// cert-manager may issue a CA twice when all is applied at once: what the first one signed is issued anew, and all pods
/// are restarted.
#[track_caller]
fn take_the_ca_that_stays(space: &Space) {
    let ca = in_secret(space, "etcd-ca", "tls\\.crt").unwrap();
    let signed_by_it = |secret: &str| match in_secret(space, secret, "ca\\.crt")? {
        same if same == ca => Ok(()),
        other => Err(format!("{secret} has the root {other}")),
    };
    let first = ["etcd-server-tls", "etcd-client-tls"].into_iter().filter(|secret| signed_by_it(secret).is_err());
    let first: Vec<&str> = first.inspect(|secret| println!("{secret} is of another CA")).collect();
    if first.is_empty() {
        return;
    }
    for secret in first {
        space.kubectl(&["delete", &format!("secret/{secret}")]).unwrap();
        eventually(SOON, "a certificate of the CA that stays", || signed_by_it(secret));
    }
    space.kubectl(&["delete", "pod", "-l", "app.kubernetes.io/name=etcd"]).unwrap();
    space.wait_for_voters(3);
}

/// With another root, a pod that restarts and those that run refuse each other, until all are restarted. Those that run
/// come to refuse each other as well: etcd shows a changed certificate at once, and believes the root that it started with.
#[track_caller]
fn one_is_cut_off_until_all_restart(space: &Space, members: &[Member]) {
    space.kubectl(&["delete", "pod/etcd-0"]).unwrap();
    let pod = space.pod(0);
    // Who dials it does not believe its certificate; who is dialled by it does not either.
    pod.wait_for_log("remote error: tls: bad certificate");
    space.pods(members.len() as u32)[1..]
        .iter()
        .for_each(|pod| pod.wait_for_log("rejected connection on peer endpoint"));
    stays(Duration::from_secs(5), "it serves nobody", || match (pod.members(), pod.is_ready()) {
        (Err(_), Err(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    space.kubectl(&["delete", "pod", "-l", "app=etcd"]).unwrap();
    assert_eq!(space.wait_for_voters(members.len() as u32), members);
}

/// A later name is a new root.
#[test]
fn self_signed_certificates_found_and_grow_and_a_later_name_needs_all_pods_to_restart() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::unrestricted("self-signed");
    space.apply_text(&self_signed(5));
    space.apply(&documented_with_tls("self-signed"));
    space.wait_for_voters(3);
    let writer = Writer::over_tls(&space, 3);
    space.scale(5);
    let members = space.wait_for_voters(5);
    assert_eq!(space.restarts(5), [0; 5]);
    writer.nothing_is_lost(5);

    space.pod(1).put("kept", "yes");
    let before = certificate(&space, "server").unwrap();
    space.apply_text(&self_signed(6));
    wait_for_another(&space, "server", &before);
    one_is_cut_off_until_all_restart(&space, &members);
    space.pod(1).has("kept", "yes");
}

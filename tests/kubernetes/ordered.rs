//! OrderedReady: each pod is created only when the one before it is ready.

use crate::harness::*;

fn all_deleted(space: &Space, members: &[Member], writer: &Writer<'_>) {
    space.pods(3).iter().for_each(Pod::kill);
    assert_eq!(space.wait_for_voters(3), members);
    writer.nothing_is_lost(3);
}

#[test]
fn ordered_pods_found_restart_and_mend_a_cluster() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::new("ordered");
    space.apply(&Overlay::base().component("ordered-ready"));
    let members = space.wait_for_voters(3);
    let writer = Writer::start(&space, 3);
    all_deleted(&space, &members, &writer);

    // Pod 0 comes back on an empty volume, and nobody else can be there before it is ready.
    space.scale(0);
    space.kubectl(&["wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=etcd", "--timeout=120s"]).unwrap();
    space.kubectl(&["delete", "pvc/etcd-data-etcd-0", "--timeout=60s"]).unwrap();
    space.scale(3);
    let mended = space.wait_for_voters(3);
    assert_eq!(mended.iter().filter(|member| members.contains(member)).count(), 2, "pod 0's member is another one");
    writer.nothing_is_lost(3);

    space.scale(4);
    space.wait_for_voters(4);
    writer.nothing_is_lost(4);
}

#[test]
fn ordered_pods_grow_from_one() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::new("ordered-one");
    let one = Overlay::base().component("ordered-ready").env("BOOTSTRAP_INITIAL_CLUSTER_SIZE", "1");
    space.apply(&one.spec(r#""replicas": 1"#));
    space.wait_for_voters(1);
    let writer = Writer::start(&space, 1);
    space.scale(3);
    let members = space.wait_for_voters(3);
    writer.nothing_is_lost(3);
    all_deleted(&space, &members, &writer);
}

/// The roll-out stops at the first pod, for this reason, and the others keep the quorum; back on the old template all is
/// as it was.
#[track_caller]
fn stops_at_the_first_pod(space: &Space, old: &Overlay, broken: &Overlay, reason: &str, writer: &Writer) {
    let (members, pods) = (space.wait_for_voters(3), space.uids(2));
    space.apply(broken);
    let last = space.pod(2);
    eventually(SOON, "the last pod says why it is not ready", || {
        let text = last.describe()?;
        let says = |line: &&str| line.contains("Readiness probe failed") && line.contains(reason);
        text.lines().find(says).map(|line| println!("{}", line.trim())).ok_or(text)
    });
    writer.wait_for(50);
    assert_eq!(space.uids(2), pods, "the roll-out went on");

    space.apply(old);
    last.kill();
    space.wait_for_rollout();
    assert_eq!(space.wait_for_voters(3), members);
    writer.nothing_is_lost(3);
}

#[test]
fn a_roll_out_stops_where_the_entrypoint_waits() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::new("ordered-wait");
    let overlay = Overlay::base().component("ordered-ready");
    space.apply(&overlay);
    space.wait_for_voters(3);
    let writer = Writer::start(&space, 3);
    let holds = overlay.clone().env("BOOTSTRAP_HOLD", "true");
    stops_at_the_first_pod(&space, &overlay, &holds, "etcd has not been started yet", &writer);
}

/// With a certificate of its own for the members' port an etcd runs, hears nobody and is heard by nobody.
#[test]
fn a_roll_out_stops_where_etcd_has_no_leader() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::new("ordered-alone");
    let overlay = Overlay::base().component("cert-manager").component("ordered-ready");
    space.apply(&overlay);
    space.apply_text(STRANGER);
    space.wait_for_voters(3);
    let writer = Writer::over_tls(&space, 3);
    let volume = r#""volumes": [{"name": "etcd-server-tls", "secret": {"secretName": "etcd-stranger-tls"}}]"#;
    let alone = overlay.clone().spec(&format!(r#""template": {{"spec": {{{volume}}}}}"#));
    stops_at_the_first_pod(&space, &overlay, &alone, "its etcd does not serve", &writer);
}

/// The members' names under a root that they do not know.
const STRANGER: &str = r#"
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: etcd-stranger}
spec:
  secretName: etcd-stranger-tls
  commonName: etcd
  usages: [digital signature, key encipherment, server auth, client auth]
  issuerRef: {name: etcd-selfsigned, kind: Issuer}
  dnsNames: [etcd-0.etcd, etcd-1.etcd, etcd-2.etcd]
"#;

//! StatefulSets that run already, by hand or by a chart, come under the entrypoint by a rolling update.

use crate::harness::*;

/// etcd alone, as its documentation has it.
#[test]
fn a_hand_made_statefulset_is_taken_over() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::unrestricted("hand-made");
    let image = stock_image(0);
    let by_hand = Overlay::of("manifests/drop-in")
        .container(&format!(r#""image": "{image}", "command": ["/usr/local/bin/etcd"]"#));
    space.apply(&by_hand);
    let members = space.wait_for_voters(3);
    let writer = Writer::start(&space, 3);

    space.apply(&Overlay::of("manifests/drop-in"));
    is_taken_over(&space, &members, &writer);
}

/// What Bitnami's chart makes, run by a stand-in for its image.
#[test]
fn a_statefulset_of_bitnamis_chart_is_taken_over() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::unrestricted("bitnami");
    let manifests = std::fs::read_to_string("tests/kubernetes/bitnami.yaml").unwrap();
    space.apply_text(&manifests.replace("STAND-IN", &stock_image(0)).replace("NAMESPACE", &space.namespace));
    let members = space.wait_for_voters(3);
    let writer = Writer::of_service(&space, "etcd-headless", 3);

    let patch = std::fs::read_to_string("manifests/drop-in/bitnami.yaml").unwrap();
    let patch = patch.replace("image: etcd-bootstrap", "image: etcd-bootstrap-test:0");
    space.kubectl(&["patch", "statefulset/etcd", "--type=strategic", "--patch", &patch]).unwrap();
    is_taken_over(&space, &members, &writer);
}

/// The same members go on in new pods, none of which restarted, nothing is lost, and another one can join.
fn is_taken_over(space: &Space, members: &[Member], writer: &Writer) {
    space.wait_for_rollout();
    assert_eq!(space.wait_for_voters(3), *members);
    assert_eq!(space.restarts(3), [0; 3]);
    writer.nothing_is_lost(3);
    space.scale(4);
    space.wait_for_voters(4);
    writer.nothing_is_lost(4);
}

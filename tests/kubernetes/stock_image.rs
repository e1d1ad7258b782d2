//! etcd's stock image: the program comes from an init container, or works in one.

use crate::harness::*;

fn founded(space: &Space, overlay: &Overlay) {
    space.apply(overlay);
    space.wait_for_voters(3);
    let pod = space.pod(0).json().unwrap();
    assert_eq!(pod["spec"]["containers"][0]["image"].as_str(), Some(stock_image(0).as_str()));
}

#[test]
fn install_brings_the_program_to_the_stock_image() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::new("install");
    founded(&space, &Overlay::base().component("install"));
    let writer = Writer::start(&space, 3);
    space.scale(4);
    let members = space.wait_for_voters(4);
    space.kubectl(&["rollout", "restart", "statefulset/etcd"]).unwrap();
    space.wait_for_rollout();
    assert_eq!(space.wait_for_voters(4), members);
    writer.nothing_is_lost(4);
}

#[test]
fn render_leaves_image_and_command_as_they_are() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::new("render");
    founded(&space, &Overlay::base().component("render"));
    let pod = space.pod(0).json().unwrap();
    assert_eq!(pod["spec"]["containers"][0]["command"][0].as_str(), Some("/usr/local/bin/etcd"));
    let writer = Writer::start(&space, 3);
    space.scale(4);
    let members = space.wait_for_voters(4);
    space.pod(2).lose_volume();
    assert_ne!(space.wait_for_voters(4), members);
    space.pods(4).iter().for_each(Pod::kill);
    space.wait_for_voters(4);
    writer.nothing_is_lost(4);
}

//! A node that loses its power.

use crate::harness::*;

/// Gives the node its power back, whatever becomes of the scenario.
struct Dead(String);

impl Dead {
    fn stop(node: &str) -> Self {
        node_power("stop", node).unwrap();
        Self(node.to_owned())
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        let taint = format!("{OUT_OF_SERVICE}-");
        let answers = [node_power("start", &self.0), kubectl(&["taint", "node", &self.0, &taint], "")];
        answers.into_iter().filter_map(Result::err).for_each(|error| println!("{error}"));
        eventually(SOON, &format!("{} is ready again", self.0), || is_ready(&self.0, "True"));
    }
}

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

fn is_ready(node: &str, wanted: &str) -> Result<(), String> {
    let node = kubectl_json(&["get", "node", node])?;
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready").unwrap_or_default();
    let is = ready["status"].as_str().unwrap_or_default();
    if is == wanted || wanted == "gone" && is != "True" { Ok(()) } else { Err(format!("Ready is {is}")) }
}

/// A volume on a node's own disk has an affinity to that node.
fn is_bound_to_its_node(pod: &Pod) -> bool {
    let claim = pod.space.json(&["get", &format!("pvc/etcd-data-{}", pod.name)]).unwrap();
    let volume = kubectl_json(&["get", "pv", claim["spec"]["volumeName"].as_str().unwrap()]).unwrap();
    volume["spec"]["nodeAffinity"].to_string().contains("kubernetes.io/hostname")
}

#[test]
fn a_node_dies_and_its_pod_returns_elsewhere_on_its_volume() {
    let Some(_cluster) = cluster_alone() else { return };
    let space = Space::new("node");
    space.apply(&Overlay::base());
    let members = space.wait_for_voters(3);
    let pod = space.pod(1);
    if is_bound_to_its_node(&pod) {
        println!("SKIPPED: the StorageClass's volumes stay on their node; it needs some that follow the pod");
        return;
    }
    let (node, uid) = (pod.node().unwrap(), pod.uid().unwrap());
    let writer = Writer::off_node(&space, 3, &node);

    let dead = Dead::stop(&node);
    writer.wait_for(50);
    eventually(SOON, "the node is not ready", || is_ready(&node, "gone"));
    writer.wait_for(20);
    // An operator says that the node is off: its pods are deleted at once, and their volumes detached.
    kubectl(&["taint", "node", &node, &format!("{OUT_OF_SERVICE}=nodeshutdown:NoExecute")], "").unwrap();
    eventually(SOON, "the pod is elsewhere", || {
        let elsewhere = pod.uid()? != uid && pod.node()? != node;
        if elsewhere { Ok(()) } else { Err("not yet".to_owned()) }
    });
    assert_eq!(space.wait_for_voters(3), members, "it came back on its own volume, as the same member");
    writer.nothing_is_lost(3);
    drop(dead);
}

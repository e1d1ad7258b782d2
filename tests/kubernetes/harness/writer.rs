//! A pod that writes without pause, and checks that nothing is lost.

use serde_json::json;

use super::SOON;
use super::space::Space;
use super::wait::eventually;

const FILE: &str = "/progress/file";

pub struct Writer<'a> {
    space: &'a Space,
    service: &'static str,
    scheme: &'static str,
}

impl<'a> Writer<'a> {
    /// Writes to the first `pods` pods of the headless service `etcd`, one at a time.
    pub fn start(space: &'a Space, pods: u32) -> Self {
        Self::of_service(space, "etcd", pods)
    }

    /// The same for another headless service.
    pub fn of_service(space: &'a Space, service: &'static str, pods: u32) -> Self {
        Self { space, service, scheme: "http" }.begin(pods, None)
    }

    /// The same, kept off a node that will lose its power.
    pub fn off_node(space: &'a Space, pods: u32, node: &str) -> Self {
        Self { space, service: "etcd", scheme: "http" }.begin(pods, Some(node))
    }

    /// The same over mutual TLS, with the members' own certificate for clients.
    pub fn over_tls(space: &'a Space, pods: u32) -> Self {
        Self { space, service: "etcd", scheme: "https" }.begin(pods, None)
    }

    fn begin(self, pods: u32, not_on: Option<&str>) -> Self {
        let terms = not_on.map(|node| {
            json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [node]}]}])
        });
        let affinity = terms.map(|terms| {
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}})
        });
        let mut args = vec!["write".to_owned(), FILE.to_owned()];
        args.extend(self.endpoints(pods));
        // Not there without TLS, and nobody looks then.
        let certificates = json!({"secretName": "etcd-client-tls", "optional": self.scheme == "http"});
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "writer"},
            "spec": {
                "enableServiceLinks": false, "terminationGracePeriodSeconds": 0, "affinity": affinity,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": "writer", "image": "etcd-bootstrap-writer:test", "imagePullPolicy": "Never", "args": args,
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [
                        {"name": "progress", "mountPath": "/progress"},
                        {"name": "certificates", "mountPath": "/certificates", "readOnly": true},
                    ],
                }],
                "volumes": [
                    {"name": "progress", "emptyDir": {}}, {"name": "certificates", "secret": certificates},
                ],
            },
        });
        self.space.apply_text(&pod.to_string());
        self.wait_for(20);
        self
    }

    fn endpoints(&self, pods: u32) -> Vec<String> {
        (0..pods).map(|ordinal| format!("{}://etcd-{ordinal}.{}:2379", self.scheme, self.service)).collect()
    }

    fn run(&self, args: &[&str]) -> Result<String, String> {
        self.space.kubectl(&[&["exec", "writer", "--", "/writer"], args].concat())
    }

    /// How many writes are acknowledged, and the longest time between two of them in milliseconds.
    pub fn progress(&self) -> Result<(u64, u64), String> {
        parse(&self.run(&["count", FILE])?)
    }

    /// Waits for so many more acknowledgements.
    #[track_caller]
    pub fn wait_for(&self, more: u64) {
        let (before, _) = eventually(SOON, "the writer runs", || self.progress());
        eventually(SOON, &format!("{more} more writes in {}", self.space.namespace), || {
            let (now, _) = self.progress()?;
            if now >= before + more { Ok(()) } else { Err(format!("{} of {more}", now - before)) }
        });
    }

    /// Each of the first `pods` members has every acknowledged write, and all have the same.
    #[track_caller]
    pub fn nothing_is_lost(&self, pods: u32) {
        self.wait_for(20);
        let endpoints = self.endpoints(pods);
        let mut args = vec!["check", FILE];
        args.extend(endpoints.iter().map(String::as_str));
        let (writes, gap) = parse(&self.run(&args).unwrap()).unwrap();
        println!("{}: {writes} acknowledged writes, none lost; longest gap {gap} ms", self.space.namespace);
    }
}

fn parse(text: &str) -> Result<(u64, u64), String> {
    let (count, gap) = text.trim().split_once(' ').ok_or_else(|| format!("not two numbers: {text:?}"))?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    Ok((number(count)?, number(gap)?))
}

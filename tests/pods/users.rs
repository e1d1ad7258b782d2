//! etcd's users and roles: what needs them, what does not, and that a password is nowhere to be seen.

use crate::harness::*;
use crate::render::{self, rendered};
use crate::templates::*;
use crate::versions::{life_of, on_each_etcd};

const PASSWORD: &str = "p4ss-of-the-test";

fn with_password(spec: PodSpec, password: &str) -> PodSpec {
    spec.file("/etc/etcd/password", format!("{password}\n"))
        .env("BOOTSTRAP_USER", "root")
        .env("BOOTSTRAP_PASSWORD_FILE", "/etc/etcd/password")
}

/// Each call of the helpers logs in, which etcd's default cost makes slow.
fn cheap(mut spec: PodSpec) -> PodSpec {
    spec.argv.push("--bcrypt-cost=4".to_owned());
    spec
}

fn mutual(spec: PodSpec) -> PodSpec {
    cheap(plain_entrypoint(spec, 3).mutual_tls())
}

/// Turns authentication on, and lets the helpers log in.
fn enable(pods: &[Pod], more: &[&[&str]]) {
    let root = format!("root:{PASSWORD}");
    let common: [&[&str]; 3] =
        [&["user", "add", &root], &["role", "add", "root"], &["user", "grant-role", "root", "root"]];
    for args in common.iter().chain(more).chain(&[&["auth", "enable"][..]]) {
        etcdctl(&pods[0], args)
            .or_else(|error| if error.contains("already exists") { Ok(error) } else { Err(error) })
            .unwrap();
    }
    for pod in pods {
        pod.edit(|spec| spec.user = Some(("root".to_owned(), PASSWORD.to_owned())));
    }
}

/// Nowhere but in the variable that was given, if one was.
fn no_password_in(pod: &Pod) {
    let name = pod.name();
    assert!(!pod.all_logs().contains(PASSWORD), "{name}: the log");
    assert!(!pod.cmdline().join(" ").contains(PASSWORD), "{name}: argv");
    let mut environ = pod.environ();
    environ.retain(|(variable, _)| variable != "ETCDCTL_USER");
    assert!(environ.iter().all(|(_, value)| !value.contains(PASSWORD)), "{name}: the environment");
    let journal = std::fs::read_to_string(pod.volume_dir("/data").join("etcd/.etcd-bootstrap/journal")).unwrap();
    assert!(!journal.contains(PASSWORD), "{name}: the journal");
    for page in ["/status", "/metrics"].iter().filter(|_| !pod.runs_etcd()) {
        let page = pod.http_get(2381, page).unwrap().body;
        assert!(!page.contains(PASSWORD), "{name}: {page}");
    }
    let more = [("HOSTNAME", name.as_str()), ("BOOTSTRAP_LOG", "trace")];
    let more = more.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut env = pod.spec().env;
    env.retain(|(name, _)| name != "BOOTSTRAP_LOG");
    env.extend(more);
    for verb in ["plan", "status", "check"] {
        let said = pod.exec_with_env(&env, &["/usr/local/bin/etcd-bootstrap", verb]).unwrap();
        let said = [said.stdout, said.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(said.contains(&name) && !said.contains(PASSWORD), "{name}: {verb}: {said}");
    }
}

fn life(version: &str) {
    let template = |spec: PodSpec| with_password(mutual(spec), PASSWORD);
    life_of(version, template, |pods| enable(pods, &[]), |pods| pods.iter().for_each(no_password_in));
}

on_each_etcd!(life);

/// Without credentials the peer port suffices to restart; a member that has to be added is told what it lacks.
#[test]
fn without_a_user_data_starts_and_a_joiner_says_what_is_missing() {
    let world = World::v4();
    let mut pods = world.pods("etcd", 0..3, |spec| cheap(plain_entrypoint(spec, 3)));
    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), 3, SOON);
    enable(&pods, &[&["user", "add", "reader:reader"]]);
    pods[2].restart();
    wait_for_voters(&all(&pods), 3, SOON);

    let joiner = world.pod(cheap(plain_entrypoint(PodSpec::new("etcd-3"), 3)));
    let waits = |what: &str| {
        joiner.restart();
        let said = eventually(SOON, "the joiner says what is missing", || {
            let answer = joiner.http_get(2381, "/status?pretty")?;
            if answer.body.contains(what) { Ok(answer.body) } else { Err(answer.body) }
        });
        assert!(!said.contains(PASSWORD), "{said}");
        assert!(!joiner.runs_etcd());
        no_password_in(&joiner);
    };
    waits("authentication is on, and this pod names no user");
    // What nobody should log, at the level that logs most.
    joiner.edit(|spec| *spec = with_password(spec.clone(), &format!("not-{PASSWORD}")).env("BOOTSTRAP_LOG", "trace"));
    waits("authentication failed");
    joiner.edit(|spec| {
        *spec = with_password(spec.clone(), "reader");
        spec.set_env("BOOTSTRAP_USER", "reader");
    });
    waits("needs the role `root`");
    joiner.edit(|spec| spec.set_env("BOOTSTRAP_TIMEOUT", "4s"));
    joiner.restart();
    assert_eq!(joiner.wait_for_exit(SOON).code(), 77);
    joiner.edit(|spec| {
        *spec = with_password(spec.clone(), PASSWORD);
        spec.unset_env("BOOTSTRAP_TIMEOUT");
        spec.user = Some(("root".to_owned(), PASSWORD.to_owned()));
    });
    joiner.restart();
    pods.push(joiner);
    wait_for_voters(&all(&pods), 4, SOON);
    no_password_in(&pods[3]);

    // The other way to say it, and a file for etcd.
    let spec = rendered(cheap(plain_entrypoint(PodSpec::new("etcd-4"), 3)));
    let user = format!("root:{PASSWORD}");
    let joiner = world.pod(spec.env("ETCDCTL_USER", &user).env("BOOTSTRAP_LOG", "trace"));
    joiner.edit(|spec| spec.user = Some(("root".to_owned(), PASSWORD.to_owned())));
    joiner.start();
    render::become_etcds(&[&joiner]);
    pods.push(joiner);
    wait_for_voters(&all(&pods), 5, SOON);
    no_password_in(&pods[4]);
    assert!(!render::config(&pods[4]).to_string().contains(PASSWORD));
}

/// The common name of the certificate is the user: no password at all.
#[test]
fn a_certificates_common_name_is_a_user() {
    let world = World::v4();
    let mut pods = world.pods("etcd", 0..3, mutual);
    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), 3, SOON);
    enable(&pods, &[&["user", "add", "etcd:unused"], &["user", "grant-role", "etcd", "root"]]);
    let joiner = world.pod(mutual(PodSpec::new("etcd-3")));
    joiner.edit(|spec| spec.user = Some(("root".to_owned(), PASSWORD.to_owned())));
    joiner.start();
    pods.push(joiner);
    wait_for_voters(&all(&pods), 4, SOON);
}

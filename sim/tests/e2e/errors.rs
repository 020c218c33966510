//! Bad input: a clear message with position or name, the documented exit code, and the running lab untouched.

use crate::harness::{Lab, Need, World, runs_here};

/// Everything that a refused command could have changed.
fn state(lab: &Lab<'_>) -> String {
    let mut text = lab.out(&["get", "pods", "-A", "-o", "name"]);
    text += &lab.out(&["get", "nodes", "-o", "name"]);
    for node in ["minikube", "minikube-m02", "minikube-m03"] {
        text += &lab.out(&["ip", "-n", node, "route"]);
        text += &lab.out(&["ip", "-n", node, "-br", "addr"]);
        text += &lab.node_pid(node).to_string();
    }
    text
}

const HEADER: &str = "apiVersion: podwire/v1\nkind: Lab\n";

#[test]
fn bad_input_is_refused_with_its_place_and_changes_nothing() {
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "inproc"]);
    lab.run_pod("a", "minikube-m02");
    let before = state(&lab);
    let up = |name: &str, content: &str| {
        let file = world.file(name, content);
        world.podwire(&["up", "--name", &lab.name, "-f", &file])
    };

    up("broken.yaml", &format!("{HEADER}name: [unclosed\n")).fails(3, &["broken.yaml:"]);
    up("unknown.yaml", &format!("{HEADER}presett: kindnet\n"))
        .fails(3, &["unknown.yaml:3:1", "presett", "preset"]);
    up(
        "twice.yaml",
        &format!(
            "{HEADER}preset: kindnet\npods:\n- name: x\n  node: minikube\n  ip: 10.244.0.9\n- name: y\n  node: minikube\n  ip: 10.244.0.9\n"
        ),
    )
    .fails(3, &["twice.yaml:", "10.244.0.9"]);
    up(
        "overlap.yaml",
        &format!(
            "{HEADER}preset: kindnet\nnodes:\n- name: n1\n  podCIDR: 10.244.0.0/23\n- name: n2\n  podCIDR: 10.244.1.0/24\n"
        ),
    )
    .fails(3, &["overlap.yaml:", "10.244.1.0/24"]);
    world
        .podwire(&[
            "up",
            "--name",
            &lab.name,
            "-f",
            world.path("absent.yaml").to_str().unwrap(),
        ])
        .fails(3, &["absent.yaml"]);

    lab.cmd(&["run", "x", "--node", "minikub"])
        .fails(1, &["minikub", "minikube"]);
    lab.cmd(&["run", "a", "--node", "minikube"])
        .fails(1, &["a", "already exists"]);
    lab.cmd(&["delete", "pod", "nobody"]).fails(1, &["nobody"]);
    lab.cmd(&["ping", "a", "nobody"]).fails(1, &["nobody"]);
    lab.cmd(&["ip", "-n", "nowhere", "route"])
        .fails(1, &["nowhere"]);
    lab.cmd(&["get", "podz"]).fails(2, &["podz"]);
    lab.cmd(&["run", "Bad_Name", "--node", "minikube"])
        .fails(3, &["Bad_Name"]);
    world
        .podwire(&["--lab", "no-such-lab", "get", "pods"])
        .fails(1, &["no-such-lab"]);

    // iproute2's own texts and statuses (decision 19).
    lab.cmd(&[
        "ip",
        "-n",
        "minikube",
        "route",
        "add",
        "10.244.1.0/24",
        "via",
        "172.16.30.4",
    ])
    .fails(2, &["RTNETLINK answers: File exists"]);
    lab.cmd(&[
        "ip",
        "-n",
        "minikube",
        "route",
        "add",
        "10.9.0.0/24",
        "via",
        "192.0.2.9",
    ])
    .fails(2, &["Error: Nexthop has invalid gateway."]);
    lab.cmd(&[
        "ip",
        "-n",
        "minikube",
        "route",
        "add",
        "10.9.0.0/24",
        "dev",
        "eth7",
    ])
    .fails(1, &["Cannot find device \"eth7\""]);

    assert_eq!(state(&lab), before, "the running lab is untouched");
    lab.cmd(&["ping", "a", "node/minikube-m03", "-c", "1"]).ok();
}

const SMALL_NODE: &str = "\
apiVersion: v1
kind: Node
metadata:
  name: small
spec:
  podCIDR: 10.244.77.0/30
status:
  addresses:
  - type: InternalIP
    address: 172.16.30.77
";

/// A /30 has room for one pod beside the gateway; the second gets host-local's own error (IPAM-6).
#[test]
fn an_exhausted_range_is_an_error_and_frees_up_again() {
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "inproc"]);
    let file = world.file("node.yaml", SMALL_NODE);
    lab.cmd(&["apply", "-f", &file]).ok();
    lab.run_pod("one", "small");
    assert_eq!(lab.ip_of("one"), "10.244.77.2");
    let before = lab.out(&["ip", "-n", "small", "route"]);
    lab.cmd(&["run", "two", "--node", "small"]).fails(
        3,
        &["no IP addresses available in range set: 10.244.77.1-10.244.77.2"],
    );
    assert_eq!(lab.out(&["ip", "-n", "small", "route"]), before);
    assert!(!lab.out(&["get", "pods", "-o", "name"]).contains("two"));
    lab.cmd(&["delete", "pod", "one"]).ok();
    lab.run_pod("two", "small");
    assert_eq!(lab.ip_of("two"), "10.244.77.2");
}

/// The status of a program is the status of `exec`; what docker says when it cannot be started, podwire says too.
#[test]
fn exec_has_the_programs_status_and_dockers_when_there_is_none() {
    if !runs_here(&[Need::Tap]) {
        return;
    }
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "tap"]);
    lab.run_pod("a", "minikube-m02");
    let status = |words: &[&str]| {
        let all: Vec<&str> = ["exec", "a", "--"]
            .into_iter()
            .chain(words.iter().copied())
            .collect();
        lab.cmd(&all).status.code()
    };
    assert_eq!(status(&["true"]), Some(0));
    assert_eq!(status(&["sh", "-c", "exit 7"]), Some(7));
    assert_eq!(status(&["sh", "-c", "kill -TERM $$"]), Some(143));
    assert_eq!(status(&["/no/such/program"]), Some(127));
    assert_eq!(status(&["/etc/hosts"]), Some(126));
    // The program's host name and files are the pod's own.
    lab.shows(&["exec", "a", "--", "hostname"], "a");
    lab.cmd(&["exec", "a", "--", "cat", "/etc/hosts"])
        .ok()
        .says("10.244.1.2");
}

/// Programs need namespaces: in-process pods say so and name the remedy (decision 9).
#[test]
fn exec_in_process_is_refused_with_the_remedy() {
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "inproc"]);
    lab.run_pod("a", "minikube-m02");
    lab.cmd(&["exec", "a", "--", "true"]).fails(4, &["tap"]);
    lab.cmd(&["shell", "a"]).fails(4, &["tap"]);
}

/// A reader that goes away early is nothing to panic about.
#[test]
fn a_closed_pipe_is_no_panic() {
    let world = World::new();
    let lab = world.up(&["--preset", "kindnet", "--backend", "inproc"]);
    let mut command = lab.world.command(&lab.words(&["get", "pods", "-A"]));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = command
        .stdout(writer)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(command);
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
    let status = child.wait().unwrap();
    assert!(!stderr.contains("panicked"), "{status}: {stderr}");
    assert_ne!(status.code(), Some(101));
}

//! `get` against the text of seed 000, with ages given by the test.

use sim::control::proto::NodeStatus;
use sim::model::{Phase, Pod};
use sim::view::kube::{self, Columns, Machine};

use crate::model::{node, pod};

const NOW: u64 = 10_000_000;

fn aged(seconds: u64) -> u64 {
    NOW - seconds * 1000
}

fn machine() -> Machine {
    Machine {
        os_image: "Buildroot 2021.02.4".to_owned(),
        kernel: "4.19.202".to_owned(),
    }
}

fn nodes() -> Vec<NodeStatus> {
    [
        ("minikube-m03", "172.16.30.5", 74, false),
        ("minikube", "172.16.30.3", 414, true),
        ("minikube-m02", "172.16.30.4", 283, false),
    ]
    .into_iter()
    .map(|(name, ip, age, control_plane)| NodeStatus {
        node: sim::model::Node {
            control_plane,
            created_ms: aged(age),
            ..node(name, ip, vec![], vec![])
        },
        pid: Some(7),
        restarts: 0,
        netns: None,
    })
    .collect()
}

/// The document's VERSION and CONTAINER-RUNTIME are those of its software; podwire shows its own.
fn ours(document: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut lines = Vec::new();
    for line in document.lines() {
        let line = line.replace("v1.23.3", &format!("v{version}"));
        lines.push(line.replace("docker://20.10.12", &format!("podwire://{version}")));
    }
    lines.join("\n") + "\n"
}

#[test]
fn nodes_read_as_in_the_document() {
    let document = "\
NAME           STATUS   ROLES                  AGE     VERSION   INTERNAL-IP   EXTERNAL-IP   OS-IMAGE              KERNEL-VERSION   CONTAINER-RUNTIME
minikube       Ready    control-plane,master   6m54s   v1.23.3   172.16.30.3   <none>        Buildroot 2021.02.4   4.19.202         docker://20.10.12
minikube-m02   Ready    <none>                 4m43s   v1.23.3   172.16.30.4   <none>        Buildroot 2021.02.4   4.19.202         docker://20.10.12
minikube-m03   Ready    <none>                 74s     v1.23.3   172.16.30.5   <none>        Buildroot 2021.02.4   4.19.202         docker://20.10.12";
    let wide = Columns {
        wide: true,
        ..Columns::default()
    };
    let text = kube::nodes(&nodes(), wide, &machine(), NOW);
    // v0.1.0 is one shorter than v1.23.3, but the column's title is the widest cell of both.
    assert_eq!(words(&text), words(&ours(document)));
    assert_eq!(text.lines().next(), ours(document).lines().next());
}

fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .map(|line| line.split_whitespace().collect())
        .collect()
}

#[test]
fn a_node_without_its_process_is_not_ready() {
    let mut nodes = nodes();
    nodes[0].pid = None;
    let text = kube::nodes(&nodes, Columns::default(), &machine(), NOW);
    let line = text
        .lines()
        .find(|line| line.starts_with("minikube-m03"))
        .unwrap();
    assert!(line.contains("NotReady"), "{text}");
}

fn pods() -> Vec<Pod> {
    [
        ("kindnet-4mrvw", "172.16.30.5", "minikube-m03", 377),
        ("coredns-64897985d-llrjh", "10.244.0.2", "minikube", 32 * 60),
        (
            "kube-controller-manager-minikube",
            "172.16.30.3",
            "minikube",
            33 * 60,
        ),
    ]
    .into_iter()
    .map(|(name, ip, node, age)| Pod {
        created_ms: aged(age),
        ..pod("kube-system", name, node, ip)
    })
    .collect()
}

#[test]
fn pods_of_all_namespaces_read_as_in_the_document() {
    let document = "\
NAMESPACE     NAME                               READY   STATUS    RESTARTS   AGE     IP            NODE           NOMINATED NODE   READINESS GATES
kube-system   coredns-64897985d-llrjh            1/1     Running   0          32m     10.244.0.2    minikube       <none>           <none>
kube-system   kindnet-4mrvw                      1/1     Running   0          6m17s   172.16.30.5   minikube-m03   <none>           <none>
kube-system   kube-controller-manager-minikube   1/1     Running   0          33m     172.16.30.3   minikube       <none>           <none>
";
    let columns = Columns {
        wide: true,
        namespace: true,
        ..Columns::default()
    };
    let pods = pods();
    assert_eq!(
        kube::pods(&pods.iter().collect::<Vec<_>>(), columns, NOW),
        document
    );
}

#[test]
fn a_pod_whose_program_has_ended_reads_as_in_the_document() {
    let busybox = Pod {
        created_ms: aged(12),
        phase: Phase::Completed,
        ..pod("default", "busybox", "minikube-m03", "10.244.2.2")
    };
    let wide = Columns {
        wide: true,
        ..Columns::default()
    };
    assert_eq!(
        kube::pods(&[&busybox], wide, NOW),
        "\
NAME      READY   STATUS      RESTARTS   AGE   IP           NODE           NOMINATED NODE   READINESS GATES
busybox   0/1     Completed   0          12s   10.244.2.2   minikube-m03   <none>           <none>
"
    );
}

#[test]
fn objects_have_kubernetes_shape_and_two_keys_more() {
    let busybox = Pod {
        netns: Some("/proc/1/fd/9".to_owned()),
        phase: Phase::Error { status: 3 },
        ..pod("default", "busybox", "minikube", "10.244.0.9")
    };
    let nodes: Vec<_> = nodes().into_iter().map(|status| status.node).collect();
    let object = kube::pod_object(&busybox, &nodes);
    assert_eq!(object["kind"], "Pod");
    assert_eq!(object["status"]["podIP"], "10.244.0.9");
    assert_eq!(object["status"]["hostIP"], "172.16.30.3");
    assert_eq!(object["status"]["phase"], "Failed");
    assert_eq!(
        object["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"],
        3
    );
    assert_eq!(object["netns"], "/proc/1/fd/9");
    assert!(object["pid"].is_null());
    let yaml = kube::to_yaml(&object);
    assert!(yaml.contains("podIP: \"10.244.0.9\""), "{yaml}");
}

#[test]
fn describe_says_what_a_node_carries() {
    let status = &nodes()[1];
    let text = kube::describe_node(status, &pods(), &machine(), NOW);
    assert!(
        text.contains("Roles:              control-plane,master\n"),
        "{text}"
    );
    assert!(text.contains("  InternalIP:  172.16.30.3\n"), "{text}");
    assert!(
        text.contains("coredns-64897985d-llrjh            10.244.0.2"),
        "{text}"
    );
    assert!(!text.contains("kindnet-4mrvw"), "{text}");
}

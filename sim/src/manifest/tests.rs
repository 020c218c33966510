//! Manifests as users have them, and mistakes in them.

use super::*;
use crate::cluster::Cluster;
use crate::spec::RestartPolicy;
use crate::testing::TempDir;

fn read_all(text: &str) -> Vec<Manifest> {
    load(&[Source::new("m.yaml", text)]).unwrap_or_else(|errors| panic!("{errors}"))
}

#[track_caller]
fn says(text: &str, wanted: &str) {
    let errors = load(&[Source::new("m.yaml", text)])
        .expect_err("the manifest is wrong")
        .to_string();
    assert!(
        errors.contains(wanted),
        "\"{wanted}\" is wanted in:\n{errors}"
    );
}

fn only_pod(text: &str) -> PodSpec {
    match read_all(text).remove(0) {
        Manifest::Pod(pod) => *pod,
        other => panic!("a pod is wanted, not {other:?}"),
    }
}

/// my-pod.yaml of seed 000, as it stands there.
#[test]
fn the_pod_of_seed_000_is_taken_as_it_is() {
    let pod = only_pod(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: nginx-manual\nspec:\n  nodeName: minikube-m02\n  containers:\n  - image: nginx\n    name: nginx\n",
    );
    assert_eq!(
        (pod.namespace.as_str(), pod.name.as_str()),
        ("default", "nginx-manual")
    );
    assert_eq!(pod.node, "minikube-m02");
    assert_eq!(pod.command, None);
    assert_eq!(pod.restart, RestartPolicy::Always);
    assert_eq!(pod.declared_at.as_deref(), Some("m.yaml:4:9"));
}

/// What `kubectl get pod -o yaml` prints: everything that has no meaning here is accepted.
#[test]
fn a_pod_as_the_api_server_prints_it_is_taken() {
    let pod = only_pod(
        r#"
apiVersion: v1
kind: Pod
metadata:
  annotations: {kubernetes.io/config.source: api}
  creationTimestamp: "2022-03-19T05:25:04Z"
  labels: {run: web, tier: front}
  name: web
  namespace: shop
  resourceVersion: "431"
  uid: 950195d8-bc1d-420f-aede-fcd4a273f0e0
spec:
  containers:
  - args: ["8080"]
    command: [python3, -m, http.server]
    env:
    - {name: MODE, value: "1"}
    - {name: EMPTY}
    - name: NODE
      valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
    image: python:3
    name: web
    ports: [{containerPort: 8080, protocol: TCP}]
    readinessProbe: {httpGet: {path: /, port: 8080}}
    resources: {}
    volumeMounts: [{mountPath: /var/run/secrets, name: token, readOnly: true}]
  - {image: busybox, name: sidecar}
  hostNetwork: true
  restartPolicy: OnFailure
  tolerations: [{effect: NoExecute, operator: Exists}]
  volumes: [{name: token, projected: {}}]
status:
  phase: Running
  podIP: 10.244.2.3
"#,
    );
    assert_eq!(pod.namespace, "shop");
    assert_eq!(pod.node, "");
    assert_eq!(
        pod.command.unwrap(),
        ["python3", "-m", "http.server", "8080"]
    );
    let env: Vec<(&str, &str)> = pod
        .env
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert_eq!(env, [("MODE", "1"), ("EMPTY", "")]);
    assert!(pod.host_network);
    assert_eq!(pod.restart, RestartPolicy::OnFailure);
    assert_eq!(pod.labels["tier"], "front");
}

/// A node with its CIDR, its address and its role.
#[test]
fn a_node_has_its_cidr_address_and_role() {
    let found = read_all(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: small\n  labels: {node-role.kubernetes.io/control-plane: \"\"}\nspec:\n  podCIDR: 10.244.77.0/30\n  podCIDRs: [10.244.77.0/30]\nstatus:\n  addresses:\n  - {type: Hostname, address: small}\n  - {type: InternalIP, address: \"fd00::1\"}\n  - {type: InternalIP, address: 172.16.30.77}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n",
    );
    let [Manifest::Node(node), Manifest::Object(shop)] = found.as_slice() else {
        panic!("a node and a namespace: {found:?}")
    };
    assert_eq!(shop.meta().name, "shop");
    // NP-24: its own name is a label of every namespace.
    assert_eq!(shop.meta().labels["kubernetes.io/metadata.name"], "shop");
    assert_eq!(node.internal_ip, Some(Ipv4Addr::new(172, 16, 30, 77)));
    assert_eq!(node.pod_cidr, Some("10.244.77.0/30".parse().unwrap()));
    assert!(node.control_plane);
}

/// What a node's manifest leaves open is the next free, and the cluster takes it.
#[test]
fn a_node_joins_with_what_is_free() {
    let dir = TempDir::new();
    let lab = lab::load(&[], &lab::Overrides::default()).unwrap();
    let mut cluster = Cluster::new(&lab, dir.path().to_path_buf(), 0).unwrap().0;
    let manifest = |text: &str| match read_all(text).remove(0) {
        Manifest::Node(node) => node,
        other => panic!("a node is wanted, not {other:?}"),
    };
    for (name, addr, cidr) in [
        ("n4", "172.16.30.6/24", "10.244.3.0/24"),
        ("n5", "172.16.30.7/24", "10.244.4.0/24"),
    ] {
        let text = format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{zone: a}}}}\n"
        );
        let nodes: Vec<Node> = cluster.nodes().cloned().collect();
        let spec = manifest(&text).joining(&nodes).unwrap();
        assert_eq!(spec.addresses, [addr.parse().unwrap()]);
        assert_eq!(spec.pod_cidr, Some(cidr.parse().unwrap()));
        assert_eq!(spec.labels["zone"], "a");
        cluster.add_node(name, None, Some(spec), 0).unwrap();
    }
}

/// Pods without a node go where the fewest are, each counting at once.
#[test]
fn pods_without_a_node_are_dealt_out() {
    let dir = TempDir::new();
    let lab = lab::load(&[], &lab::Overrides::default()).unwrap();
    let cluster = Cluster::new(&lab, dir.path().to_path_buf(), 0).unwrap().0;
    let nodes: Vec<Node> = cluster.nodes().cloned().collect();
    let running: Vec<Pod> = cluster.pods().cloned().collect();
    let mut pods: Vec<PodSpec> = ["a", "b", "c"]
        .map(|name| {
            only_pod(&format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c}}]}}\n"
            ))
        })
        .into();
    place(&mut pods, &nodes, &running);
    let placed: Vec<&str> = pods.iter().map(|pod| pod.node.as_str()).collect();
    // coredns is on the first node already.
    assert_eq!(placed, ["minikube-m02", "minikube-m03", "minikube"]);
}

/// `kubectl get -o yaml` of several things is a List.
#[test]
fn a_list_is_its_items() {
    let found = read_all(
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: a}\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: b}\n",
    );
    assert_eq!(found.len(), 2);
    says(
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: List}\n",
        "a list may not stand in a list",
    );
}

/// Slips of the pen and what this version has not, each at its place.
#[test]
fn mistakes_are_reported_at_their_place() {
    let pod = |spec: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  containers:\n  - name: c\n{spec}"
        )
    };
    says(
        &pod("  nodename: minikube\n"),
        "m.yaml:7:3: unknown key \"nodename\" in the spec of a pod; did you mean \"nodeName\"?",
    );
    says(
        &pod("    comand: [x]\n"),
        "m.yaml:7:5: unknown key \"comand\" in a container; did you mean \"command\"?",
    );
    says(
        &pod("  initContainers: [{name: i}]\n"),
        "initContainers are not in this version",
    );
    says(
        &pod("    command: [a]\n  - name: d\n    command: [b]\n"),
        "m.yaml:8:5: a pod has one program",
    );
    says(
        "apiVersion: v1\nkind: Pod\nmetdata: {name: a}\n",
        "did you mean \"metadata\"?",
    );
    says(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: Bad_Name}\nspec: {containers: []}\n",
        "m.yaml:3:18: the name of a pod must consist of lower-case letters",
    );
    says(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
        "m.yaml:2:7: kind ConfigMap means nothing to podwire",
    );
    says(
        "apiVersion: v1\nkind: Pdo\n",
        "no kind \"Pdo\"; did you mean \"Pod\"?",
    );
    says(
        "apiVersion: podwire/v1\nkind: Lab\n",
        "only manifests can stand here",
    );
}

/// PM-8: host ports are read with their address, and each mistake is reported at its place.
#[test]
fn host_ports_are_read_and_checked() {
    let pod = |spec: &str, ports: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n{spec}  containers:\n  - name: c\n    ports: {ports}\n"
        )
    };
    let good = only_pod(&pod(
        "",
        "[{containerPort: 80, hostPort: 8080}, {containerPort: 53, hostPort: 8080, protocol: UDP, hostIP: 10.0.0.1}, {containerPort: 9}]",
    ));
    let hosts: Vec<_> = good
        .ports
        .iter()
        .map(|port| port.host.as_ref().map(|host| (host.ip, host.port)))
        .collect();
    let ip = Some(Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!(hosts, [Some((None, 8080)), Some((ip, 8080)), None]);
    let first = good.ports[0].host.as_ref().unwrap();
    assert_eq!(first.declared_at.as_deref(), Some("m.yaml:7:43"));
    for (ports, wanted) in [
        (
            "[{containerPort: 80, hostPort: 0}]",
            "m.yaml:7:43: hostPort must be a whole number from 1 to 65535, not \"0\"",
        ),
        (
            "[{containerPort: 80, hostPort: 65536}]",
            "m.yaml:7:43: hostPort must be a whole number from 1 to 65535, not \"65536\"",
        ),
        (
            "[{containerPort: 80, hostPort: \"8080\"}]",
            "m.yaml:7:43: hostPort must be a number, not the text \"8080\"",
        ),
        (
            "[{containerPort: 80, hostPort: 80, protocol: ICMP}]",
            "m.yaml:7:57: protocol",
        ),
        (
            "[{containerPort: 80, hostPort: 80, hostIP: here}]",
            "m.yaml:7:55: hostIP \"here\" is no IPv4 address",
        ),
        (
            "[{containerPort: 80, hostport: 80}]",
            "m.yaml:7:33: unknown key \"hostport\" in a port; did you mean \"hostPort\"?",
        ),
        (
            "[{containerPort: 80, hostPort: 8080}, {containerPort: 81, hostPort: 8080, hostIP: 0.0.0.0}]",
            "m.yaml:7:80: a second hostPort 8080/TCP",
        ),
    ] {
        says(&pod("", ports), wanted);
    }
    let shared = "  hostNetwork: true\n";
    says(
        &pod(shared, "[{containerPort: 80, hostPort: 8080}]"),
        "m.yaml:8:43: hostPort 8080 must be containerPort 80 in a pod with hostNetwork",
    );
    only_pod(&pod(shared, "[{containerPort: 80, hostPort: 80}]"));
}

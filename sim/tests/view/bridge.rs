//! Nodes with bridges: the CNI plugin `bridge` as podman's conflist uses it (dataplane sections 8 and 6.3), from lab to view.

use std::fs;
use std::net::Ipv4Addr;

use router_core::config::{BridgePort, PortKind};
use router_core::{Mac, Snapshot};
use sim::cluster::Cluster;
use sim::lab::{self, Overrides, Source};
use sim::model::Pod;
use sim::spec::{PodSpec, RestartPolicy};

use crate::model::podwire_ip;

const PODMAN: &str = include_str!("../../src/lab/preset/87-podman-bridge.conflist");

struct Lab {
    cluster: Cluster,
    dir: tempfile::TempDir,
}

impl Lab {
    fn new(text: &str) -> Self {
        let source = Source::new("lab.yaml", text);
        let spec = lab::load(&[source], &Overrides::default()).expect("a valid lab");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (cluster, _) = Cluster::new(&spec, dir.path().to_owned(), 0).expect("a consistent lab");
        Self { cluster, dir }
    }

    /// The preset without pods of its own.
    fn podman() -> Self {
        Self::new(
            "{apiVersion: podwire/v1, kind: Lab, preset: podman-bridge, systemPods: false, nodes: 2}",
        )
    }

    fn add(&mut self, name: &str, node: &str) -> Result<Pod, String> {
        self.cluster
            .add_pod(&pod(name, node), 0)
            .map_err(|error| error.to_string())?;
        Ok(self
            .cluster
            .pod("default", name)
            .expect("the pod was added")
            .clone())
    }

    fn delete(&mut self, name: &str) {
        self.cluster
            .delete_pod("default", name)
            .expect("the pod is there");
    }

    fn ip(&self, node: &str, words: &str) -> String {
        let node = self.cluster.node(node).expect("a node");
        let (status, out, err) = podwire_ip(words, node, &[]);
        assert_eq!((status, err.as_str()), (0, ""), "ip {words}");
        out
    }

    fn snapshot(&self, node: &str) -> Snapshot {
        self.cluster.snapshot(node).expect("a node")
    }

    /// Somebody changes a file in the node's configuration directory.
    fn write(&self, node: &str, name: &str, text: &str) {
        let dir = self.cluster.node_dir(node).join("cni");
        fs::write(dir.join(name), text).expect("the directory is there");
    }

    fn remove(&self, node: &str, name: &str) {
        let dir = self.cluster.node_dir(node).join("cni");
        fs::remove_file(dir.join(name)).expect("the file is there");
    }
}

fn pod(name: &str, node: &str) -> PodSpec {
    PodSpec {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        node: node.to_owned(),
        labels: Default::default(),
        host_network: false,
        cni: None,
        link: None,
        ip: None,
        mac: None,
        command: None,
        env: Default::default(),
        restart: RestartPolicy::Always,
        declared_at: None,
        ..PodSpec::default()
    }
}

/// What is wrong with a conflist, as `up` says it.
fn complaint(conflist: &str) -> String {
    let indented: String = conflist
        .lines()
        .map(|line| format!("      {line}\n"))
        .collect();
    let text = format!(
        "apiVersion: podwire/v1\nkind: Lab\npreset: podman-bridge\nnetwork:\n  cniExtraFiles:\n    87-podman-bridge.conflist: |\n{indented}"
    );
    let source = Source::new("lab.yaml", text);
    lab::load(&[source], &Overrides::default())
        .expect_err("a mistake")
        .to_string()
}

fn podman_with(from: &str, to: &str) -> String {
    assert!(PODMAN.contains(from), "{from}");
    PODMAN.replace(from, to)
}

/// BR-12, BR-13, BR-16, BR-23: the bridge and the ports of seed 001's minikube, but for names and MACs.
#[test]
fn a_node_shows_the_bridge_of_seed_001() {
    let mut lab = Lab::podman();
    let (a, b) = (lab.add("a", "minikube"), lab.add("b", "minikube"));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.ip, Ipv4Addr::new(10, 88, 0, 2));
    assert_eq!(b.ip, Ipv4Addr::new(10, 88, 0, 3));
    let [a, b] = [a, b].map(|pod| pod.link.unwrap());
    let shown = lab.ip("minikube", "addr");
    let node = lab.cluster.node("minikube").unwrap();
    let bridge = node
        .ifaces
        .iter()
        .find(|i| i.name == "cni-podman0")
        .unwrap();
    let mac = bridge.mac;
    assert!(mac != a.host_mac && mac != b.host_mac);
    let expected = format!(
        "5: cni-podman0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP group default qlen 1000
    link/ether {mac} brd ff:ff:ff:ff:ff:ff
    inet 10.88.0.1/16 brd 10.88.255.255 scope global cni-podman0
       valid_lft forever preferred_lft forever
6: {}@if4: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue master cni-podman0 state UP group default 
    link/ether {} brd ff:ff:ff:ff:ff:ff link-netnsid 0
7: {}@if4: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue master cni-podman0 state UP group default 
    link/ether {} brd ff:ff:ff:ff:ff:ff link-netnsid 1
",
        a.host_ifname, a.host_mac, b.host_ifname, b.host_mac
    );
    assert!(shown.ends_with(&expected), "{shown}\n{expected}");
    let routes = lab.ip("minikube", "route");
    assert!(
        routes.contains("10.88.0.0/16 dev cni-podman0 proto kernel scope link src 10.88.0.1 \n"),
        "{routes}"
    );
    // MIX-2: no other node knows the network.
    assert!(!lab.ip("minikube-m02", "route").contains("10.88."));
}

/// BR-13: the MAC stays whatever ports come and go. BR-24: without ports there is no carrier, and the route is down.
#[test]
fn the_bridge_outlives_its_ports() {
    let mut lab = Lab::podman();
    lab.add("a", "minikube").unwrap();
    let mac = |lab: &Lab| {
        let node = lab.cluster.node("minikube").unwrap();
        let found = node.ifaces.iter().find(|i| i.name == "cni-podman0");
        found.map(|iface| iface.mac)
    };
    let first: Option<Mac> = mac(&lab);
    assert!(first.is_some());
    lab.delete("a");
    assert_eq!(mac(&lab), first);
    let shown = lab.ip("minikube", "-br link show cni-podman0");
    assert!(
        shown.contains("DOWN") && shown.contains("NO-CARRIER"),
        "{shown}"
    );
    let routes = lab.ip("minikube", "route");
    assert!(
        routes.contains(
            "10.88.0.0/16 dev cni-podman0 proto kernel scope link src 10.88.0.1 linkdown"
        ),
        "{routes}"
    );
    lab.add("b", "minikube").unwrap();
    assert_eq!(mac(&lab), first);
    assert!(
        !lab.ip("minikube", "route")
            .contains("cni-podman0 proto kernel scope link src 10.88.0.1 linkdown")
    );
}

/// INV-7: a pod that comes and goes leaves the node as it was, but for indexes and IPAM's cursor; BR-16: which goes on.
#[test]
fn a_pod_that_goes_leaves_nothing() {
    let mut lab = Lab::podman();
    lab.add("a", "minikube").unwrap();
    let before = lab.cluster.node("minikube").unwrap().clone();
    let snapshot = Snapshot {
        epoch: 0,
        ..lab.snapshot("minikube")
    };
    assert_eq!(
        lab.add("b", "minikube").unwrap().ip,
        Ipv4Addr::new(10, 88, 0, 3)
    );
    lab.delete("b");
    assert_eq!(*lab.cluster.node("minikube").unwrap(), before);
    assert_eq!(
        Snapshot {
            epoch: 0,
            ..lab.snapshot("minikube")
        },
        snapshot
    );
    assert_eq!(
        lab.add("c", "minikube").unwrap().ip,
        Ipv4Addr::new(10, 88, 0, 4)
    );
}

/// BR-4, BR-12, BR-18: what the router is told, and what the pod gets.
#[test]
fn ports_of_the_bridge_are_hairpin_ports_of_the_router() {
    let mut lab = Lab::podman();
    let link = lab.add("a", "minikube").unwrap().link.unwrap();
    let snapshot = lab.snapshot("minikube");
    let port = |name: &str| snapshot.ports.iter().find(|p| p.name == name).unwrap();
    let bridge = port("cni-podman0");
    assert_eq!(bridge.kind, PortKind::Bridge);
    assert!(bridge.carrier);
    assert_eq!(
        port(&link.host_ifname).bridge,
        Some(BridgePort {
            bridge: bridge.id,
            hairpin: true
        })
    );
    assert_eq!(link.addr.to_string(), "10.88.0.2/16");
    assert_eq!(link.gateway_mac(), Some(bridge.mac));
    let routes: Vec<String> = link
        .routes
        .iter()
        .map(|route| format!("{} via {:?} scope {:?}", route.dst, route.via, route.scope))
        .collect();
    assert_eq!(routes, ["0.0.0.0/0 via Some(10.88.0.1) scope Global"]);
}

/// MIX-1: of the files in the directory the first by name counts, when the pod is made; who was there before keeps what he has.
#[test]
fn the_first_configuration_by_name_counts() {
    let mut lab = Lab::podman();
    let first = lab.add("first", "minikube").unwrap();
    let other = podman_with("10.88.", "10.77.")
        .replace("cni-podman0", "cni-other0")
        .replace("\"podman\"", "\"other\"");
    lab.write("minikube", "10-other.conflist", &other);
    lab.write("minikube", "05-no-configuration.txt", "not read");
    assert_eq!(
        lab.add("second", "minikube").unwrap().ip,
        Ipv4Addr::new(10, 77, 0, 2)
    );
    lab.write("minikube", "88-later.conflist", "not read either");
    assert_eq!(
        lab.add("third", "minikube").unwrap().ip,
        Ipv4Addr::new(10, 77, 0, 3)
    );
    assert_eq!(lab.cluster.pod("default", "first").unwrap().ip, first.ip);
    // On another node nothing has changed.
    assert_eq!(
        lab.add("there", "minikube-m02").unwrap().ip,
        Ipv4Addr::new(10, 88, 0, 2)
    );
    lab.remove("minikube", "10-other.conflist");
    assert_eq!(
        lab.add("fourth", "minikube").unwrap().ip,
        Ipv4Addr::new(10, 88, 0, 3)
    );
    // DEL goes by what ADD did.
    lab.delete("second");
    lab.delete("first");
}

/// MIX-1: beside kindnet's own file podman's comes later, and a pod can be older than kindnet's.
#[test]
fn a_pod_can_be_older_than_the_clusters_cni() {
    let indented: String = PODMAN
        .lines()
        .map(|line| format!("      {line}\n"))
        .collect();
    let mut lab = Lab::new(&format!(
        "apiVersion: podwire/v1\nkind: Lab\npreset: kindnet\nnetwork:\n  cniConfDir: /etc/cni/net.d\n  cniExtraFiles:\n    87-podman-bridge.conflist: |\n{indented}\
         systemPods: false\npods:\n- {{name: old, node: minikube, cni: 87-podman-bridge.conflist}}\n- {{name: new, node: minikube}}\n"
    ));
    let ip = |lab: &Lab, name: &str| lab.cluster.pod("default", name).unwrap().ip.to_string();
    assert_eq!(ip(&lab, "old"), "10.88.0.2");
    assert_eq!(ip(&lab, "new"), "10.244.0.2");
    assert_eq!(
        lab.add("newer", "minikube").unwrap().ip.to_string(),
        "10.244.0.3"
    );
    // MIX-2: from elsewhere the old one is behind the default route, that is nowhere.
    let route = lab.ip("minikube-m02", "route get 10.88.0.2");
    assert!(
        route.starts_with("10.88.0.2 via 172.16.30.1 dev eth0"),
        "{route}"
    );
}

/// BR-14.
#[test]
fn another_address_on_the_bridge_is_refused_unless_forced() {
    let mut lab = Lab::podman();
    lab.add("a", "minikube").unwrap();
    let other = podman_with("10.88.", "10.77.").replace("\"podman\"", "\"other\"");
    lab.write("minikube", "10-other.conflist", &other);
    let error = lab.add("b", "minikube").unwrap_err();
    assert!(
        error.contains("\"cni-podman0\" already has an IP address different from 10.77.0.1/16"),
        "{error}"
    );
    assert_eq!(lab.cluster.pods().count(), 1);
    let forced = other.replace("\"ipMasq\"", "\"forceAddress\": true, \"ipMasq\"");
    lab.write("minikube", "10-other.conflist", &forced);
    assert_eq!(
        lab.add("b", "minikube").unwrap().ip.to_string(),
        "10.77.0.2"
    );
    let shown = lab.ip("minikube", "-br addr show cni-podman0");
    assert!(
        shown.contains("10.77.0.1/16") && !shown.contains("10.88.0.1"),
        "{shown}"
    );
    assert!(!lab.ip("minikube", "route").contains("10.88."));
}

/// The bridge's name may belong to something else.
#[test]
fn a_name_that_is_taken_is_refused() {
    let mut lab = Lab::podman();
    lab.write(
        "minikube",
        "10-x.conflist",
        &podman_with("cni-podman0", "eth0"),
    );
    let error = lab.add("a", "minikube").unwrap_err();
    assert!(
        error.contains("\"eth0\" already exists but is not a bridge"),
        "{error}"
    );
}

/// BR-15, and everything that the plugin knows and this version does not.
#[test]
fn what_the_plugin_would_refuse_or_we_cannot_do_is_an_error() {
    let gateway = "\"isGateway\": true,";
    let with = |more: &str| podman_with(gateway, &format!("{gateway} {more},"));
    for (conflist, why) in [
        (
            with("\"promiscMode\": true"),
            "cannot set hairpin mode and promiscuous mode at the same time",
        ),
        (
            with("\"disableContainerInterface\": true"),
            "cannot use IPAM when disableContainerInterface is set",
        ),
        (with("\"vlan\": 5"), "vlan is not in this version"),
        (
            with("\"macspoofchk\": true"),
            "macspoofchk is not in this version",
        ),
        (
            with("\"portIsolation\": true"),
            "portIsolation is not in this version",
        ),
        (
            with("\"isgateway\": true"),
            "unknown key \"isgateway\" in the plugin bridge; did you mean \"isGateway\"?",
        ),
        (with("\"mtu\": 67"), "an IPv4 MTU is at least 68"),
        (
            podman_with("cni-podman0", "a-name-that-is-too-long"),
            "is no name of an interface",
        ),
        (podman_with("10.88.0.0/16", "10.88.0.5/16"), "host bits set"),
        (
            podman_with("\"10.88.0.1\"", "\"10.89.0.1\""),
            "gateway 10.89.0.1 lies outside subnet 10.88.0.0/16",
        ),
        (
            podman_with("\"tuning\"", "\"vrf\""),
            "CNI plugin \"vrf\" is not in this version",
        ),
        (
            podman_with("\"host-local\"", "\"dhcp\""),
            "IPAM plugin \"dhcp\" is not in this version",
        ),
        (
            podman_with("\"type\": \"tuning\"", "\"type\": \"tuning\", \"mtu\": 9"),
            "unknown key \"mtu\"",
        ),
    ] {
        let said = complaint(&conflist);
        assert!(said.contains(why), "{why}\n{said}");
    }
}

/// Nothing asked for is nothing refused: zero and false are the plugin's defaults.
#[test]
fn defaults_that_are_written_out_are_no_mistake() {
    let gateway = "\"isGateway\": true,";
    let more = "\"vlan\": 0, \"promiscMode\": false, \"macspoofchk\": false, \"disableContainerInterface\": false, \"mtu\": 0,";
    let text = podman_with(gateway, &format!("{gateway} {more}"));
    let mut lab = Lab::podman();
    lab.write("minikube", "10-podman.conflist", &text);
    assert_eq!(
        lab.add("a", "minikube").unwrap().ip.to_string(),
        "10.88.0.2"
    );
}

/// BR-12, BR-16: isDefaultGateway makes the bridge the gateway; a range has bounds.
#[test]
fn a_configuration_of_one_plugin_with_bounds_and_a_default_gateway() {
    let mut lab = Lab::podman();
    lab.write(
        "minikube",
        "10-one.conf",
        r#"{"cniVersion": "0.3.1", "name": "one", "type": "bridge", "isDefaultGateway": true, "mtu": 1400,
            "ipam": {"type": "host-local", "subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9", "rangeEnd": "10.1.2.10", "gateway": "10.1.2.254"}}"#,
    );
    let a = lab.add("a", "minikube").unwrap();
    assert_eq!(a.ip.to_string(), "10.1.2.9");
    let link = a.link.unwrap();
    assert_eq!(
        (link.mtu, link.gateway.to_string().as_str()),
        (1400, "10.1.2.254")
    );
    assert_eq!(link.routes.len(), 1);
    assert_eq!(link.routes[0].via, Some(link.gateway));
    let shown = lab.ip("minikube", "addr show cni0");
    assert!(
        shown.contains("mtu 1400") && shown.contains("inet 10.1.2.254/24 brd 10.1.2.255"),
        "{shown}"
    );
    assert_eq!(
        lab.add("b", "minikube").unwrap().ip.to_string(),
        "10.1.2.10"
    );
    let error = lab.add("c", "minikube").unwrap_err();
    assert!(
        error.contains("no IP addresses available in range set: 10.1.2.9-10.1.2.10"),
        "{error}"
    );
}

/// A pod's address is checked where it is written.
#[test]
fn impossible_addresses_on_the_bridge_have_a_position() {
    let load = |pod: &str| {
        let text =
            format!("apiVersion: podwire/v1\nkind: Lab\npreset: podman-bridge\npods:\n- {pod}\n");
        lab::load(&[Source::new("lab.yaml", text)], &Overrides::default())
    };
    for (pod, why) in [
        (
            "{name: a, ip: 10.88.0.1}",
            "lab.yaml:5:17: address 10.88.0.1 of pod \"a\" is the gateway of network \"podman\"",
        ),
        (
            "{name: a, ip: 10.87.0.9}",
            "lab.yaml:5:17: address 10.87.0.9 of pod \"a\" is none that network \"podman\" (10.88.0.0/16) gives",
        ),
        (
            "{name: a, cni: 87-podman.conflist}",
            "no CNI configuration \"87-podman.conflist\" on the nodes; did you mean \"87-podman-bridge.conflist\"?",
        ),
    ] {
        let said = load(pod).unwrap_err().to_string();
        assert!(said.contains(why), "{why}\n{said}");
    }
    assert!(load("{name: a, ip: 10.88.255.254}").is_ok());
}

/// The files of a lab's nodes are where its pods' networks come from.
#[test]
fn a_lab_can_name_the_conflist() {
    let dir = tempfile::tempdir().unwrap();
    let text = podman_with("10.88.", "10.66.");
    fs::write(dir.path().join("50-mine.conflist"), text).unwrap();
    let file = dir.path().join("lab.yaml");
    fs::write(&file, "{apiVersion: podwire/v1, kind: Lab, preset: podman-bridge, systemPods: false, network: {conflist: 50-mine.conflist}}").unwrap();
    let sources = Source::open(file.to_str().unwrap()).unwrap();
    let spec = lab::load(&sources, &Overrides::default()).unwrap();
    let root = tempfile::tempdir().unwrap();
    let (cluster, _) = Cluster::new(&spec, root.path().to_owned(), 0).unwrap();
    let mut lab = Lab { cluster, dir: root };
    assert_eq!(
        lab.add("a", "minikube").unwrap().ip.to_string(),
        "10.66.0.2"
    );
    assert!(
        lab.dir
            .path()
            .join("nodes/minikube/cni/50-mine.conflist")
            .exists()
    );
}

//! Lab files as a whole: what they resolve to, and how mistakes read.

mod inverse;
mod schema;
mod seeds;
mod uplink;

use std::fs;
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::spec::{IpipMode, Preset};
use crate::testing::TempDir;

const HEADER: &str = "apiVersion: podwire/v1\nkind: Lab\n";

fn lab(body: &str) -> LabSpec {
    load(
        &[Source::new("lab.yaml", format!("{HEADER}{body}"))],
        &Overrides::default(),
    )
    .unwrap_or_else(|errors| panic!("{errors}"))
}

/// The errors of a lab as they are printed.
fn errors(body: &str) -> String {
    load(
        &[Source::new("lab.yaml", format!("{HEADER}{body}"))],
        &Overrides::default(),
    )
    .expect_err("the lab is wrong")
    .to_string()
}

#[track_caller]
fn says(body: &str, wanted: &str) {
    let text = errors(body);
    assert!(text.contains(wanted), "\"{wanted}\" is wanted in:\n{text}");
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// `up` without a file: seed 000's nodes, default route and pods.
#[test]
fn without_a_file_it_is_seed_000() {
    let lab = load(&[], &Overrides::default()).unwrap();
    let nodes: Vec<(&str, String, String)> = lab
        .nodes
        .iter()
        .map(|node| {
            (
                node.name.as_str(),
                node.internal_ip.to_string(),
                node.pod_cidr.unwrap().to_string(),
            )
        })
        .collect();
    assert_eq!(
        nodes,
        [
            (
                "minikube",
                "172.16.30.3".to_owned(),
                "10.244.0.0/24".to_owned()
            ),
            (
                "minikube-m02",
                "172.16.30.4".to_owned(),
                "10.244.1.0/24".to_owned()
            ),
            (
                "minikube-m03",
                "172.16.30.5".to_owned(),
                "10.244.2.0/24".to_owned()
            ),
        ]
    );
    assert!(lab.nodes[0].control_plane && !lab.nodes[1].control_plane);
    let gateway = lab.network.gateway.unwrap();
    assert_eq!(
        (gateway.addr, gateway.dhcp_metric),
        (ip("172.16.30.1"), Some(1024))
    );
    // The shapes of the seed's names, random parts by their length.
    let mut shapes: Vec<String> = lab
        .pods
        .iter()
        .map(|pod| {
            let random = ["kindnet-", "kube-proxy-", "coredns-"]
                .iter()
                .any(|prefix| pod.name.starts_with(prefix));
            let name = if random {
                format!("{}*****", &pod.name[..pod.name.len() - 5])
            } else {
                pod.name.clone()
            };
            format!("{name} {}", pod.node)
        })
        .collect();
    shapes.sort();
    assert_eq!(
        shapes,
        [
            "coredns-64897985d-***** minikube",
            "etcd-minikube minikube",
            "kindnet-***** minikube",
            "kindnet-***** minikube-m02",
            "kindnet-***** minikube-m03",
            "kube-apiserver-minikube minikube",
            "kube-controller-manager-minikube minikube",
            "kube-proxy-***** minikube",
            "kube-proxy-***** minikube-m02",
            "kube-proxy-***** minikube-m03",
            "kube-scheduler-minikube minikube",
            "storage-provisioner minikube",
        ]
    );
    for pod in &lab.pods {
        assert_eq!(pod.host_network, !pod.name.starts_with("coredns-"));
        assert_eq!(pod.namespace, "kube-system");
    }
}

/// seed-000.yaml is the preset written out, nothing else.
#[test]
fn the_file_of_seed_000_is_the_preset() {
    let mut file = load(&Source::open("seed-000").unwrap(), &Overrides::default()).unwrap();
    file.name = "kindnet".to_owned();
    assert_eq!(file, load(&[], &Overrides::default()).unwrap());
}

/// Every lab in the program loads, and bears the name of its file.
#[test]
fn every_built_in_lab_loads() {
    for (name, _) in BUILT_IN {
        let sources = Source::open(name).unwrap();
        let lab = load(&sources, &Overrides::default()).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(lab.name, *name);
    }
}

/// Flags stand above files.
#[test]
fn flags_stand_above_files() {
    let overrides = Overrides {
        preset: Some("kindnet".into()),
        nodes: Some(50),
        name: Some("big".into()),
        network_policy: None,
        offload: None,
        workers: None,
    };
    let source = Source::new("lab.yaml", format!("{HEADER}name: small\nnodes: 2\n"));
    let lab = load(&[source], &overrides).unwrap();
    assert_eq!(lab.name, "big");
    assert_eq!(lab.nodes.len(), 50);
    assert_eq!(lab.nodes[49].name, "minikube-m50");
    assert_eq!(lab.nodes[49].internal_ip, ip("172.16.30.52"));
    assert_eq!(
        lab.nodes[49].pod_cidr,
        Some("10.244.49.0/24".parse().unwrap())
    );
}

/// Decision 21: presets that are not there are named, with what is there.
#[test]
fn a_preset_that_is_not_there_says_what_is() {
    let overrides = Overrides {
        preset: Some("cilium".into()),
        ..Overrides::default()
    };
    assert_eq!(
        load(&[], &overrides).unwrap_err().to_string(),
        "no preset \"cilium\"; there are \"kindnet\", \"calico\", \"podman-bridge\" and \"manual\""
    );
    says(
        "preset: kindnett\n",
        "lab.yaml:3:9: no preset \"kindnett\"; did you mean \"kindnet\"?",
    );
}

/// The whole text of an error: place, message, line, caret.
#[test]
fn an_error_shows_its_line_and_a_caret() {
    assert_eq!(
        errors("presett: kindnet\n"),
        "lab.yaml:3:1: unknown key \"presett\" in a lab; did you mean \"preset\"?\n \
         3 | presett: kindnet\n   | ^^^^^^^"
    );
}

/// All mistakes come out at once, each at its own place.
#[test]
fn all_errors_come_at_once() {
    let text = errors(
        "network:\n  mtu: 20\n  dhcp: {lease: 24}\n  gateway: 172.16.30\nnodes:\n- name: Bad_Name\n- nam: x\npods:\n- name: a\n  node: nowhere\n  restartPolicy: Sometimes\n",
    );
    for place in ["4:8", "5:17", "6:12", "8:9", "9:3", "12:9", "13:18"] {
        assert!(
            text.contains(&format!("lab.yaml:{place}: ")),
            "{place} in:\n{text}"
        );
    }
}

/// Both places of what may stand only once are named.
#[test]
fn duplicates_name_both_places() {
    let twice = "pods:\n- {name: x, node: minikube, ip: 10.244.0.9}\n- {name: y, node: minikube, ip: 10.244.0.9}\n";
    says(
        twice,
        "lab.yaml:5:33: address 10.244.0.9 of pod \"default/y\" belongs to pod \"default/x\"",
    );
    says(twice, "lab.yaml:4:33: which is here");
    let names = "pods:\n- {name: x, node: minikube}\n- {name: x, node: minikube-m02}\n";
    says(
        names,
        "lab.yaml:5:10: a second pod \"x\" in namespace \"default\"",
    );
    says(names, "lab.yaml:4:10: the first is here");
    let nodes =
        "nodes:\n- {name: n, internalIP: 172.16.30.9}\n- {name: n, internalIP: 172.16.30.9}\n";
    says(nodes, "lab.yaml:5:10: a second node \"n\"");
    says(
        nodes,
        "address 172.16.30.9 of node \"n\" belongs to node \"n\"",
    );
    says(
        "nodes:\n- {name: n, internalIP: 172.16.30.1}\n",
        "address 172.16.30.1 of node \"n\" belongs to the gateway",
    );
}

/// Overlapping podCIDRs are reported at the later one, whichever is wider.
#[test]
fn overlapping_pod_cidrs_name_both_places() {
    let text =
        "nodes:\n- name: n1\n  podCIDR: 10.244.0.0/23\n- name: n2\n  podCIDR: 10.244.1.0/24\n";
    says(
        text,
        "lab.yaml:7:12: podCIDR 10.244.1.0/24 of node \"n2\" overlaps 10.244.0.0/23 of node \"n1\"",
    );
    says(text, "lab.yaml:5:12: the other is here");
    says(
        "nodes:\n- name: n1\n  podCIDR: 10.244.1.0/24\n- name: n2\n  podCIDR: 10.244.0.0/23\n",
        "lab.yaml:7:12: podCIDR 10.244.0.0/23 of node \"n2\" overlaps 10.244.1.0/24 of node \"n1\"",
    );
}

/// IPAM-11, IPAM-1.
#[test]
fn a_pod_cidr_with_host_bits_or_too_small_is_refused() {
    says(
        "nodes:\n- name: n\n  podCIDR: 10.244.0.5/24\n",
        "lab.yaml:5:12: 10.244.0.5/24 has host bits set; the network is 10.244.0.0/24",
    );
    says(
        "nodes:\n- name: n\n  podCIDR: 10.244.0.0/31\n",
        "lab.yaml:5:12: podCIDR 10.244.0.0/31 is too small",
    );
}

/// Addresses that a pod can't have, each with the reason (IPAM-7).
#[test]
fn a_pod_can_not_have_any_address() {
    for (addr, why) in [
        ("10.244.1.9", "lies outside podCIDR 10.244.0.0/24"),
        ("10.244.0.1", "is the gateway"),
        ("10.244.0.0", "is the network or broadcast address"),
        ("10.244.0.255", "is the network or broadcast address"),
    ] {
        says(
            &format!("pods:\n- {{name: a, node: minikube, ip: {addr}}}\n"),
            why,
        );
    }
    says(
        "pods:\n- {name: a, node: minikube, hostNetwork: true, ip: 10.244.0.9}\n",
        "has hostNetwork",
    );
    says(
        "pods:\n- {name: a, node: minikub}\n",
        "lab.yaml:4:19: no node \"minikub\"; did you mean \"minikube\"?",
    );
}

/// Nodes without an address or podCIDR get the next that nobody states.
#[test]
fn what_is_not_stated_goes_around_what_is() {
    let lab = lab(
        "network: {firstNodeAddress: 172.16.30.1, gateway: 172.16.30.2}\nnodes:\n- name: a\n- {name: b, internalIP: 172.16.30.3, podCIDR: 10.244.0.0/23}\n- name: c\n- {name: d, podCIDR: none}\nsystemPods: false\n",
    );
    let got: Vec<(String, String)> = lab
        .nodes
        .iter()
        .map(|node| {
            let cidr = node
                .pod_cidr
                .map_or_else(|| "none".to_owned(), |net| net.to_string());
            (node.addresses[0].to_string(), cidr)
        })
        .collect();
    let want = [
        ("172.16.30.1/24", "10.244.2.0/24"),
        ("172.16.30.3/24", "10.244.0.0/23"),
        ("172.16.30.4/24", "10.244.3.0/24"),
        ("172.16.30.5/24", "none"),
    ];
    assert_eq!(
        got,
        want.map(|(addr, cidr)| (addr.to_owned(), cidr.to_owned()))
    );
}

/// A pod without a node goes where the fewest are.
#[test]
fn a_pod_without_a_node_goes_to_the_least_loaded() {
    let lab = lab(
        "systemPods: false\npods:\n- name: a\n- {name: b, node: minikube-m02}\n- name: c\n- name: d\n",
    );
    let nodes: Vec<&str> = lab.pods.iter().map(|pod| pod.node.as_str()).collect();
    assert_eq!(
        nodes,
        ["minikube", "minikube-m02", "minikube-m03", "minikube"]
    );
}

/// Address space ends with an error, not with a wrap-around.
#[test]
fn address_space_ends_with_an_error() {
    says(
        "nodes: 300\n",
        "no address is left in nodeSubnet 172.16.30.0/24",
    );
    says(
        "network: {nodeSubnet: 172.16.0.0/16}\nnodes: 300\n",
        "no /24 is left in clusterCIDR 10.244.0.0/16",
    );
    says("network: {clusterCIDR: 172.16.0.0/12}\n", "overlap");
}

/// A key that stands twice, a second lab, a wrong apiVersion, no kind.
#[test]
fn the_frame_of_a_document_is_checked() {
    says(
        "name: a\nname: b\n",
        "lab.yaml:4:1: key \"name\" stands twice",
    );
    says(
        &format!("name: a\n---\n{HEADER}"),
        "a second lab; one start makes one lab",
    );
    for (text, wanted) in [
        (
            "apiVersion: podwire/v2\nkind: Lab\n",
            "t.yaml:1:13: apiVersion of a lab must be \"podwire/v1\"",
        ),
        (
            "apiVersion: podwire/v1\nkidn: Lab\n",
            "did you mean \"kind\"?",
        ),
        ("name: x\n", "a document needs \"kind\""),
        ("- a\n", "a document must be a mapping, not a list"),
        (
            "apiVersion: v1\nkind: Deployment\n",
            "kind Deployment means nothing to podwire",
        ),
    ] {
        let text = load(&[Source::new("t.yaml", text)], &Overrides::default())
            .unwrap_err()
            .to_string();
        assert!(text.contains(wanted), "{text}");
    }
}

/// Manifests stand in the same stream, and their pods find the lab's nodes; nodes of manifests join those of the file.
#[test]
fn manifests_stand_in_the_same_stream() {
    let lab = lab(
        "nodes: 1\nsystemPods: false\n---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: nginx-manual\nspec:\n  nodeName: extra\n  containers:\n  - image: nginx\n    name: nginx\n---\napiVersion: v1\nkind: Node\nmetadata: {name: extra}\n",
    );
    assert_eq!(lab.nodes.len(), 2);
    assert_eq!(lab.pods[0].node, "extra");
    assert_eq!(lab.pods[0].declared_at.as_deref(), Some("lab.yaml:9:9"));
}

/// Where nothing else names nodes, the manifests' nodes are all.
#[test]
fn nodes_of_manifests_alone_are_the_cluster() {
    let text = "apiVersion: v1\nkind: Node\nmetadata: {name: only}\nstatus:\n  addresses: [{type: InternalIP, address: 172.16.30.77}]\n";
    let lab = load(&[Source::new("n.yaml", text)], &Overrides::default()).unwrap();
    assert_eq!(lab.nodes.len(), 1);
    assert_eq!(lab.nodes[0].internal_ip, ip("172.16.30.77"));
}

/// A lab takes MTU and podCIDR from the conflist of a real node.
#[test]
fn a_conflist_gives_mtu_and_pod_cidr() {
    let dir = TempDir::new();
    let conflist = crate::conflist::kindnet("10.244.7.0/24".parse().unwrap(), Some(1450));
    fs::write(dir.path().join("10-kindnet.conflist"), conflist).unwrap();
    let file = dir.path().join("lab.yaml");
    fs::write(
        &file,
        format!("{HEADER}network:\n  conflist: 10-kindnet.conflist\n"),
    )
    .unwrap();
    let sources = Source::open(file.to_str().unwrap()).unwrap();
    let lab = load(&sources, &Overrides::default()).unwrap();
    assert_eq!(lab.network.mtu, 1450);
    let cidrs: Vec<String> = lab
        .nodes
        .iter()
        .map(|node| node.pod_cidr.unwrap().to_string())
        .collect();
    assert_eq!(cidrs, ["10.244.7.0/24", "10.244.0.0/24", "10.244.1.0/24"]);
}

/// A lab whose network is the conflist `text`.
fn with_conflist(text: &str, more: &str) -> Result<LabSpec, Diagnostics> {
    let dir = TempDir::new();
    fs::write(dir.path().join("net.conflist"), text).unwrap();
    let body = format!("{HEADER}{more}network:\n  conflist: net.conflist\n");
    let mut source = Source::new("lab.yaml", body);
    source.dir = Some(dir.path().to_path_buf());
    load(&[source], &Overrides::default())
}

/// CAL-34: limits of a conflist are for all of its pods.
#[test]
fn limits_of_a_conflist_are_the_networks() {
    let text = crate::conflist::calico("minikube", None);
    let plugin = "\"type\": \"bandwidth\",";
    let limited = format!(
        "{plugin} \"ingressRate\": 123000, \"ingressBurst\": 456000, \"egressRate\": 8, \"egressBurst\": 80,"
    );
    let lab = with_conflist(&text.replacen(plugin, &limited, 1), "").unwrap();
    let found = lab.network.bandwidth;
    let limit = |limit: Option<crate::bandwidth::Limit>| limit.map(|l| (l.rate, l.burst));
    assert_eq!(limit(found.ingress), Some((123_000, 456_000)));
    assert_eq!(limit(found.egress), Some((8, 80)));
    assert!(
        with_conflist(&text, "")
            .unwrap()
            .network
            .bandwidth
            .is_unlimited()
    );
}

/// CAL-34: what is wrong with an annotation is said at its place, in a lab as in a manifest.
#[test]
fn annotations_about_bandwidth_are_checked_where_they_are_written() {
    let text = format!(
        "{HEADER}pods:\n- name: a\n  annotations:\n    kubernetes.io/ingress-bandwidth: 8Q\n    kubernetes.io/egress-bandwidth: \"10\"\n"
    );
    let found = load(&[Source::new("lab.yaml", &text)], &Overrides::default()).unwrap_err();
    let found: Vec<_> = found.iter().collect();
    let line = text.lines().position(|l| l.contains("8Q")).unwrap() + 1;
    let places: Vec<_> = found.iter().map(|d| d.place().unwrap().1).collect();
    assert_eq!(places.len(), 2, "{places:?}");
    assert!(
        places.contains(&line) && places.contains(&(line + 1)),
        "{places:?}"
    );
}

/// CAL-35: seed 001's conflist is a lab of the preset calico; what podwire would do otherwise is said at its place.
#[test]
fn calicos_conflist_gives_the_preset_and_the_mtu() {
    let text = crate::conflist::calico("minikube", None);
    let lab = with_conflist(&text, "").unwrap();
    assert_eq!(lab.preset, Preset::Calico);
    assert_eq!(lab.network.calico.unwrap().mtu, None);
    assert_eq!(lab.network.mtu, 1500);
    let lab = with_conflist(&text.replace("\"mtu\": 0", "\"mtu\": 1400"), "").unwrap();
    assert_eq!(lab.network.calico.unwrap().mtu, Some(1400));
    assert_eq!(lab.network.mtu, 1500);
    for (from, to, wanted) in [
        (
            "calico-ipam",
            "host-local",
            "net.conflist:13:19: IPAM plugin \"host-local\"",
        ),
        (
            "\"k8s\"",
            "\"etcd\"",
            "net.conflist:16:19: policy of type \"etcd\"",
        ),
        (
            "\"bandwidth\",",
            "\"bandwidth\", \"ingressRate\": 9,",
            "bandwidth: if rate is set, burst must also be set",
        ),
    ] {
        let text = with_conflist(&text.replacen(from, to, 1), "")
            .unwrap_err()
            .to_string();
        assert!(text.contains(wanted), "{wanted} is wanted in:\n{text}");
    }
    let text = with_conflist(&text, "preset: kindnet\n")
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("preset \"kindnet\" contradicts the conflist, which is calico's"),
        "{text}"
    );
}

/// Decision 21: Calico's parameters have their bounds, and belong to Calico.
#[test]
fn calicos_parameters_are_checked() {
    let calico = |keys: &str| format!("preset: calico\nnetwork: {{calico: {{{keys}}}}}\n");
    let network = lab(&calico(
        "blockSize: 28, ipipMode: CrossSubnet, natOutgoing: false",
    ))
    .network;
    let spec = network.calico.unwrap();
    assert_eq!(
        (spec.block_size, spec.ipip_mode, spec.nat_outgoing),
        (28, IpipMode::CrossSubnet, false)
    );
    assert_eq!(network.cluster_cidr.to_string(), "10.244.0.0/16");
    says(
        "network: {calico: {blockSize: 28}}\n",
        "these belong to preset \"calico\"",
    );
    says(
        &calico("mtu: 20"),
        "mtu must be 0, for what follows from the hosts', or from 68 to 1970",
    );
    says(
        "preset: calico\nnetwork: {clusterCIDR: 10.244.0.0/24, calico: {blockSize: 23}}\n",
        "blockSize 23 is larger than the whole clusterCIDR 10.244.0.0/24",
    );
    says(
        "preset: calico\nnetwork: {mtu: 80}\n",
        "lab.yaml:4:16: mtu 80 leaves less than 68 bytes inside an IPIP tunnel",
    );
    says(
        "preset: calico\npods: [{name: a, node: minikube, ip: 10.245.0.1}]\n",
        "address 10.245.0.1 of pod \"a\" is not in Calico's pool 10.244.0.0/16",
    );
    // A node without podCIDR takes pods all the same (CAL-1).
    let lab = lab("preset: calico\nnodes: [{name: a, podCIDR: none}]\npods: [{name: p}]\n");
    assert_eq!(lab.pods.last().unwrap().node, "a");
}

/// A conflist of other plugins is valid CNI; what is missing is said at its place in the conflist.
#[test]
fn a_conflist_with_other_plugins_says_which() {
    let macvlan = "{\"cniVersion\": \"0.4.0\", \"name\": \"m\", \"plugins\": [\n  {\"type\": \"macvlan\"}\n]}";
    let text = with_conflist(macvlan, "").unwrap_err().to_string();
    assert!(text.contains("net.conflist:2:12"), "{text}");
    assert!(
        text.contains("CNI plugin \"macvlan\" is not in this version; there are ptp"),
        "{text}"
    );
    let dir = TempDir::new();
    let mut source = Source::new(
        "lab.yaml",
        format!("{HEADER}network:\n  conflist: absent.conflist\n"),
    );
    source.dir = Some(dir.path().to_path_buf());
    let text = load(&[source], &Overrides::default())
        .unwrap_err()
        .to_string();
    assert!(text.starts_with("lab.yaml:4:13: "), "{text}");
}

/// `-f` on a directory takes its files by name; on nothing it says so; a file that is no text is named.
#[test]
fn sources_are_files_directories_and_built_in_names() {
    let dir = TempDir::new();
    let path = |name: &str| dir.path().join(name);
    let open = |name: &str| Source::open(path(name).to_str().unwrap());
    fs::create_dir(path("d")).unwrap();
    assert!(open("d").unwrap_err().to_string().contains("no .yaml"));
    for name in ["d/b.yaml", "d/a.yml", "d/c.txt"] {
        fs::write(path(name), "").unwrap();
    }
    let names: Vec<String> = open("d")
        .unwrap()
        .into_iter()
        .map(|source| source.name)
        .collect();
    assert!(names.len() == 2 && names[0].ends_with("a.yml") && names[1].ends_with("b.yaml"));
    assert!(
        open("absent.yaml")
            .unwrap_err()
            .to_string()
            .contains("absent.yaml")
    );
    fs::write(path("bin"), [0xff, 0xfe]).unwrap();
    assert!(open("bin").unwrap_err().to_string().contains("not UTF-8"));
}

/// Names of files that a lab puts on its nodes stay in their directory.
#[test]
fn extra_files_stay_in_their_directory() {
    for name in ["../x", "..", "a/b", "10-kindnet.conflist"] {
        let body = format!("network:\n  cniExtraFiles:\n    \"{name}\": x\n");
        assert!(errors(&body).contains("lab.yaml:5:"), "{name}");
    }
    for dir in ["etc", "/etc/../root", "/"] {
        says(
            &format!("network: {{cniConfDir: \"{dir}\"}}\n"),
            "no absolute path of a directory",
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// No text makes it panic, neither noise nor words that are nearly right.
    #[test]
    fn no_text_makes_it_panic(
        words in proptest::collection::vec(
            prop_oneof![
                Just("apiVersion: podwire/v1\nkind: Lab\n".to_owned()),
                Just("---\n".to_owned()),
                Just("apiVersion: v1\nkind: Pod\n".to_owned()),
                Just("nodes:\n".to_owned()),
                Just("- name: a\n".to_owned()),
                Just("  podCIDR: 0.0.0.0/0\n".to_owned()),
                Just("network: {nodeSubnet: 255.255.255.255/32, clusterCIDR: 0.0.0.0/0}\n".to_owned()),
                Just("network: {nodeSubnet: 255.255.255.0/24, firstNodeAddress: 255.255.255.254}\n".to_owned()),
                Just("pods: [{name: a, ip: 255.255.255.255}]\n".to_owned()),
                "[ -~\n]{0,40}",
                any::<String>(),
            ],
            0..8,
        ),
        nodes in proptest::option::weighted(0.3, prop_oneof![9 => 0_usize..400, 1 => Just(20_000)]),
    ) {
        let text = words.concat();
        let overrides = Overrides { nodes, ..Overrides::default() };
        if let Err(errors) = load(&[Source::new("t", text.clone())], &overrides) {
            prop_assert!(!errors.is_empty());
            prop_assert!(!errors.to_string().is_empty());
        }
        let _refused_or_not = manifest::load(&[Source::new("t", text)]);
    }
}

/// A network whose packets the routers could not hold is refused, where it is written.
#[test]
fn an_mtu_is_no_larger_than_a_frame() {
    let largest = usize::from(written::MAX_MTU);
    assert_eq!(largest + 14, router_core::frame::MAX_FRAME);
    let network = |mtu: usize| {
        let text = format!("apiVersion: podwire/v1\nkind: Lab\nnetwork: {{mtu: {mtu}}}\n");
        load(&[Source::new("lab.yaml", text)], &Overrides::default())
    };
    assert!(network(largest).is_ok());
    let refused = network(largest + 1).unwrap_err().to_string();
    assert!(refused.contains("lab.yaml:3:16: "), "{refused}");
    assert!(refused.contains("1970"), "{refused}");
}

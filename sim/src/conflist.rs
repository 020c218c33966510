//! The CNI configuration that kindnetd or Calico's install-cni writes on each node.
//!
//! Decides the text of `10-kindnet.conflist` (KND-8; blank lines and tabs as in seed 000) and of `10-calico.conflist` (seed
//! 001), and when it is written: only when it
//! would change, to a `.temp` file that is renamed (KND-7), so that nobody reads half of it.

use std::fs;
use std::io;
use std::path::Path;

use ipnet::Ipv4Net;

/// Its file name.
pub const FILE_NAME: &str = "10-kindnet.conflist";

/// Name of the network in it, and of host-local's directory.
pub const NETWORK: &str = "kindnet";

/// The text for a node whose pods live in `subnet` (KND-8); without an MTU the field is left out (PTP-3).
#[must_use]
pub fn kindnet(subnet: Ipv4Net, mtu: Option<u16>) -> String {
    let mtu = mtu.map_or_else(String::new, |mtu| format!("\t\t,\n\t\t\"mtu\": {mtu}\n\n"));
    format!(
        "\n{{\n\t\"cniVersion\": \"0.3.1\",\n\t\"name\": \"{NETWORK}\",\n\t\"plugins\": [\n\t{{\n\t\t\"type\": \"ptp\",\n\t\t\"ipMasq\": false,\n\
         \t\t\"ipam\": {{\n\t\t\t\"type\": \"host-local\",\n\t\t\t\"dataDir\": \"/run/cni-ipam-state\",\n\t\t\t\"routes\": [\n\n\n\
         \t\t\t\t{{ \"dst\": \"0.0.0.0/0\" }}\n\t\t\t],\n\t\t\t\"ranges\": [\n\n\n\t\t\t\t[ {{ \"subnet\": \"{subnet}\" }} ]\n\t\t\t]\n\t\t}}\n\
         {mtu}\t}},\n\t{{\n\t\t\"type\": \"portmap\",\n\t\t\"capabilities\": {{\n\t\t\t\"portMappings\": true\n\t\t}}\n\t}}\n\t]\n}}\n"
    )
}

/// Name of Calico's file.
pub const CALICO_FILE_NAME: &str = "10-calico.conflist";

/// Name of the network in Calico's file; begins the handles of its allocations.
pub const CALICO_NETWORK: &str = "k8s-pod-network";

/// Calico's text for a node; no MTU is 0, which is found out by its daemon.
#[must_use]
pub fn calico(nodename: &str, mtu: Option<u16>) -> String {
    let mtu = mtu.unwrap_or(0);
    format!(
        r#"{{
  "name": "{CALICO_NETWORK}",
  "cniVersion": "0.3.1",
  "plugins": [
    {{
      "type": "calico",
      "log_level": "info",
      "log_file_path": "/var/log/calico/cni/cni.log",
      "datastore_type": "kubernetes",
      "nodename": "{nodename}",
      "mtu": {mtu},
      "ipam": {{
          "type": "calico-ipam"
      }},
      "policy": {{
          "type": "k8s"
      }},
      "kubernetes": {{
          "kubeconfig": "/etc/cni/net.d/calico-kubeconfig"
      }}
    }},
    {{
      "type": "portmap",
      "snat": true,
      "capabilities": {{"portMappings": true}}
    }},
    {{
      "type": "bandwidth",
      "capabilities": {{"bandwidth": true}}
    }}
  ]
}}"#
    )
}

/// Puts `content` into `<dir>/<name>` unless it is there already. True when it was written.
///
/// # Errors
/// What the file system says; the old file is untouched then.
pub fn write_if_changed(dir: &Path, name: &str, content: &str) -> io::Result<bool> {
    let path = dir.join(name);
    if fs::read(&path).is_ok_and(|old| old == content.as_bytes()) {
        return Ok(false);
    }
    fs::create_dir_all(dir)?;
    let temp = dir.join(format!("{name}.temp"));
    fs::write(&temp, content)?;
    fs::rename(&temp, &path)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    /// The text of seed 000, minikube-m02, as `cat` printed it.
    const SEED_000_M02: &str = r#"
{
	"cniVersion": "0.3.1",
	"name": "kindnet",
	"plugins": [
	{
		"type": "ptp",
		"ipMasq": false,
		"ipam": {
			"type": "host-local",
			"dataDir": "/run/cni-ipam-state",
			"routes": [


				{ "dst": "0.0.0.0/0" }
			],
			"ranges": [


				[ { "subnet": "10.244.1.0/24" } ]
			]
		}
		,
		"mtu": 1500

	},
	{
		"type": "portmap",
		"capabilities": {
			"portMappings": true
		}
	}
	]
}
"#;

    /// The text of seed 001, minikube; it ends without a line feed.
    const SEED_001: &str = r#"{
  "name": "k8s-pod-network",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "calico",
      "log_level": "info",
      "log_file_path": "/var/log/calico/cni/cni.log",
      "datastore_type": "kubernetes",
      "nodename": "minikube",
      "mtu": 0,
      "ipam": {
          "type": "calico-ipam"
      },
      "policy": {
          "type": "k8s"
      },
      "kubernetes": {
          "kubeconfig": "/etc/cni/net.d/calico-kubeconfig"
      }
    },
    {
      "type": "portmap",
      "snat": true,
      "capabilities": {"portMappings": true}
    },
    {
      "type": "bandwidth",
      "capabilities": {"bandwidth": true}
    }
  ]
}"#;

    /// KND-8, IPAM-5, S0-5.
    #[test]
    fn the_text_is_the_seeds() {
        assert_eq!(
            kindnet("10.244.1.0/24".parse().unwrap(), Some(1500)),
            SEED_000_M02
        );
    }

    /// CAL-35, seed 001 row 3: the file as `cat` printed it on minikube.
    #[test]
    fn calicos_text_is_the_seeds() {
        assert_eq!(calico("minikube", None), SEED_001);
    }

    /// PTP-3: without eth0 there is no MTU to copy; the rest stays valid JSON.
    #[test]
    fn without_an_mtu_the_field_is_left_out() {
        let text = kindnet("10.244.1.0/24".parse().unwrap(), None);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["plugins"][0]["type"], "ptp");
        assert!(json["plugins"][0].get("mtu").is_none());
    }

    /// KND-7: written once, not again, and no temporary file stays.
    #[test]
    fn it_is_written_only_when_it_changes() {
        let dir = TempDir::new();
        assert!(write_if_changed(dir.path(), FILE_NAME, "one").unwrap());
        assert!(!write_if_changed(dir.path(), FILE_NAME, "one").unwrap());
        assert!(write_if_changed(dir.path(), FILE_NAME, "two").unwrap());
        let names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, [FILE_NAME]);
    }
}

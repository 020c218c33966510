//! Users start with 1,024 descriptors, or fewer, and a pod takes four.

use crate::harness::{DEADLINE, Need, World, eventually, runs_here};

const LAB: &str = "
apiVersion: podwire/v1
kind: Lab
systemPods: false
pods:
- {name: told, node: minikube, command: [sh, -c, 'ulimit -Sn; exec sleep infinity']}
";

/// The daemon takes as many as it may. Programs in pods get what podwire was given.
#[test]
fn a_low_limit_of_descriptors_is_no_limit_of_pods() {
    if !runs_here(&[Need::Tap]) {
        return;
    }
    let world = World::new();
    let lab = world.lab("");
    let file = world.file("lab.yaml", LAB);
    let pods: String = (0..30)
        .map(|n| {
            format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{n}}}\nspec: {{containers: [{{name: c}}]}}\n")
        })
        .collect();
    let pods = world.file("pods.yaml", &pods);
    let args = ["up", "--name", &lab.name, "-f", &file, "-f", &pods];
    world.podwire_after("ulimit -Sn 100", &args).ok();
    let said = eventually(DEADLINE, "the program has said it", || {
        let said = lab.out(&["logs", "told"]);
        (!said.is_empty()).then_some(said)
    });
    assert_eq!(said, "100\n");
}

/// What can't be had is said before anything is made.
#[test]
fn too_few_descriptors_are_an_error_with_a_remedy() {
    if !runs_here(&[Need::Tap, Need::Root]) {
        return;
    }
    let Some(world) = World::ordinary_user(true) else {
        return;
    };
    let lab = world.lab("");
    let file = world.file("lab.yaml", LAB);
    let args = ["up", "--name", &lab.name, "-f", &file];
    let text = "file descriptors, and this user may have 100: ulimit -Hn as root";
    world
        .podwire_after("ulimit -n 100", &args)
        .fails(4, &[text]);
}

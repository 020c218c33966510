//! The views, printed from model values without any lab, compared with documents and with the real `ip`.

mod bridge;
mod kube;
mod model;
mod oracle;
mod seed000;
mod seeds;

//! API: what each request means. One file per noun; the OpenAPI document is made of the same functions.

mod backups;
mod changes;
mod disks;
mod events;
mod health;
mod openapi;
mod page;
mod prune;
mod servers;
mod snapshots;
mod space;
mod stats;

use crate::app::Shared;
use crate::gate;
use crate::refusal::{Code, Refusal};
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// All addresses.
pub(crate) fn router(app: &Shared) -> Router {
    let (router, document) = OpenApiRouter::new()
        .routes(routes!(snapshots::list, snapshots::create))
        .routes(routes!(snapshots::show, snapshots::change, snapshots::delete))
        .routes(routes!(snapshots::restore))
        .routes(routes!(snapshots::clone_server))
        .routes(routes!(changes::of_snapshot))
        .routes(routes!(changes::of_server))
        .routes(routes!(snapshots::would_free))
        .routes(routes!(servers::list, servers::create))
        .routes(routes!(servers::show, servers::change, servers::delete))
        .routes(routes!(servers::start))
        .routes(routes!(servers::stop))
        .routes(routes!(servers::suspend))
        .routes(routes!(servers::resume))
        .routes(routes!(servers::undo))
        .routes(routes!(servers::reset))
        .routes(routes!(prune::plan_prune, prune::prune))
        .routes(routes!(disks::add_disk))
        .routes(routes!(disks::change_disk, disks::delete_disk))
        .routes(routes!(backups::list, backups::create))
        .routes(routes!(backups::show, backups::delete))
        .routes(routes!(backups::restore))
        .routes(routes!(space::space))
        .routes(routes!(stats::stats))
        .routes(routes!(space::collector, space::collect))
        .routes(routes!(space::trim))
        .routes(routes!(events::events))
        .split_for_parts();
    let document = Arc::new(openapi::finish(document));
    let pages = page::router(&document);
    router
        .merge(pages)
        .route("/healthz", get(health::healthz))
        .route("/metrics", get(health::metrics))
        .fallback(async || Refusal::not_found("there is nothing at this address; /docs lists what there is"))
        .method_not_allowed_fallback(async || {
            Refusal::new(Code::MethodNotAllowed, "this address does not take that method")
        })
        .layer(from_fn_with_state(app.clone(), gate::enter))
        .with_state(app.clone())
}

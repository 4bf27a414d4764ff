//! OpenAPI: what the functions of this room say about themselves, with what holds for all of them.

use crate::refusal::ErrorView;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Info, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};

const DESCRIPTION: &str = "Servers, their disks and their snapshots. Send `Authorization: Bearer <token>`; `cowblk token create` makes tokens. \
Lists are `{\"count\": N, \"results\": [...]}`, newest first. Times are UTC. A POST with an `Idempotency-Key` is done once.";
/// What any request may be answered, and why.
const REFUSALS: [(&str, &str); 14] = [
    ("400", "A parameter is not acceptable, a limit is reached, or the server is in the wrong state"),
    ("401", "No token, or one that is not known"),
    ("403", "The token lacks the scope"),
    ("404", "There is no such thing"),
    ("405", "The address does not take that method"),
    ("409", "A request with the same Idempotency-Key is under way"),
    ("413", "The body is too large"),
    ("415", "The body is no JSON"),
    ("422", "The Idempotency-Key was used for another request"),
    ("429", "Too many requests without a token that is known"),
    ("502", "A hook failed"),
    ("503", "Too much at once, or the store takes no changes"),
    ("504", "It took too long"),
    ("507", "The store is full"),
];

/// The document with what holds for all addresses.
pub(super) fn finish(mut document: OpenApi) -> OpenApi {
    document.info = Info::new("cowblk", env!("CARGO_PKG_VERSION"));
    document.info.description = Some(DESCRIPTION.into());
    let components = document.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.security_schemes.insert("token".into(), RefOr::T(SecurityScheme::Http(bearer)));
    components.schemas.insert(ErrorView::name().into(), ErrorView::schema());
    document.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("token", [])]);
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete, &mut item.put]
            .into_iter()
            .flatten();
        for operation in operations {
            for (status, why) in REFUSALS {
                let schema = Ref::from_schema_name(ErrorView::name());
                let content = ContentBuilder::new().schema(Some(RefOr::Ref(schema))).build();
                let response =
                    ResponseBuilder::new().description(why).content("application/json", content).build();
                operation.responses.responses.entry(status.into()).or_insert(RefOr::T(response));
            }
        }
    }
    document
}

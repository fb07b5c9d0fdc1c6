"""The simulation as a picture: drift and quality over time, each setting's retrains marked on its own line."""


def render_svg(s):
    return ""

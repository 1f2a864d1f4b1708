"""A whole study: from a folder of images to tables of the group and pages to check the masks by."""
